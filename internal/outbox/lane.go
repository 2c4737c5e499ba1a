package outbox

import (
	"context"
	"sync"
	"time"
)

// Bounds of a batch of mails that a sender claims at a time. Within them a batch takes about batchTime:
// short enough that the claim is young when its last mail goes out, long enough that claiming costs
// little.
const (
	minBatch  = 4
	maxBatch  = 128
	batchTime = 200 * time.Millisecond
)

// Bounds of the pause after failures of sessions.
const (
	minPause = time.Second
	maxPause = time.Minute
)

// lane is the senders of one instance and what holds them back.
type lane struct {
	instance string

	mu       sync.Mutex
	senders  int
	claiming int    // senders that will see what is in the queue now
	wakes    uint64 // counts calls of join
	resumes  uint64 // counts calls of resume

	batch    int
	failures int       // sessions in a row that came to nothing
	until    time.Time // nothing is claimed before
	expired  time.Time // when expired mails were last looked for

	proven  credential    // that a session has worked with
	proving chan struct{} // closed when the sender that tries another one knows; nil when none does
}

// credential names a version of a provider's settings and secret.
type credential struct {
	provider          string
	sequence, version uint64
}

// prove reports whether a sender may use a credential. One that has not worked yet is tried by one
// sender at a time, so that a wrong one is not shown to the server many times at once: the others
// wait until the first knows, and may not if it came to nothing. The sender says what came of it
// with proved, which counts once.
func (l *lane) prove(ctx context.Context, c credential) (proved func(worked bool), ok bool) {
	for {
		l.mu.Lock()
		known, others := l.proven == c, l.proving
		if !known && others == nil {
			l.proving = make(chan struct{})
		}
		l.mu.Unlock()
		switch {
		case known:
			return func(bool) {}, true
		case others == nil:
			var once sync.Once
			return func(worked bool) { once.Do(func() { l.proved(c, worked) }) }, true
		}
		select {
		case <-others:
		case <-ctx.Done():
			return nil, false
		}
		if l.failing() {
			return nil, false
		}
	}
}

func (l *lane) proved(c credential, worked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if worked {
		l.proven = c
	}
	close(l.proving)
	l.proving = nil
}

func (l *lane) failing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failures > 0
}

// join reports whether one more sender is wanted; it counts as one from then on.
func (l *lane) join(now time.Time, limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakes++
	if l.failures > 0 {
		limit = 1 // to see whether it works again
	}
	if now.Before(l.until) || l.claiming > 0 || l.senders >= limit {
		return false
	}
	l.senders++
	l.claiming++
	return true
}

// glance is when a claim was begun: what was heard by then, it knows.
type glance struct{ wakes, resumes uint64 }

// begin returns how many mails to claim, and what the claim will know.
func (l *lane) begin() (limit int, seen glance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen = glance{l.wakes, l.resumes}
	if l.failures > 0 {
		return 1, seen
	}
	return l.batch, seen
}

// claimed says that the sender has mails and looks at the queue no more for now.
func (l *lane) claimed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claiming--
}

// again says that the sender has done its mails, and reports whether it may claim more; if not, it
// counts no longer.
func (l *lane) again(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.until) {
		l.senders--
		return false
	}
	l.claiming++
	return true
}

// leave reports whether a sender that found nothing may go: not if there was a wake since its claim.
func (l *lane) leave(seen glance, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wakes != seen.wakes && !now.Before(l.until) {
		return false
	}
	l.senders--
	l.claiming--
	return true
}

// drop takes a sender off that ends while it claims.
func (l *lane) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.senders--
	l.claiming--
}

// hold lets nothing be claimed before the time, because of what a claim has found. If the lane was
// resumed meanwhile, that is old news.
func (l *lane) hold(until time.Time, seen glance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resumes == seen.resumes && until.After(l.until) {
		l.until = until
	}
}

// heldUntil returns the time before which nothing is claimed; it may be over.
func (l *lane) heldUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// failed pauses the lane after a session that came to nothing, longer each time. Sessions that fail
// together count once, and those of a claim from before the lane was resumed not at all.
func (l *lane) failed(now time.Time, seen glance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resumes != seen.resumes || now.Before(l.until) {
		return
	}
	pause := maxPause
	if l.failures < 6 {
		pause = min(maxPause, minPause<<l.failures)
	}
	l.failures++
	l.until = now.Add(pause)
}

// worked ends what failed began.
func (l *lane) worked(mails int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = 0
	switch {
	case took > batchTime:
		l.batch = max(minBatch, l.batch/2)
	case took < batchTime/2 && mails >= l.batch:
		l.batch = min(maxBatch, l.batch*2)
	}
}

// resume lifts every hold.
func (l *lane) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures, l.until = 0, time.Time{}
	l.resumes++
}

// mayExpire reports whether it is time to look for expired mails.
func (l *lane) mayExpire(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.expired) < time.Second {
		return false
	}
	l.expired = now
	return true
}
