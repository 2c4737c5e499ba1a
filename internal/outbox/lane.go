package outbox

import (
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
	resumes  uint64 // counts changes
	sequence uint64 // of the last of them

	batch    int
	failures int       // sessions in a row that came to nothing
	until    time.Time // nothing is claimed before
	expired  time.Time // when expired mails were last looked for

	probes   int       // senders that try whether it works again after failures
	room     int       // how many sessions the server seems to take at a time
	roomEnds time.Time // until when room counts

	proven  credential // that a session has worked with
	proving *proof     // of another one; nil when nobody tries one
}

// join reports whether one more sender is wanted; it counts as one from then on.
func (l *lane) join(now time.Time, limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakes++
	if l.claiming > 0 || l.full(l.senders+1, now, limit) {
		return false
	}
	l.senders++
	l.claiming++
	return true
}

// full reports whether there may be no more than so many senders now. After failures one at a time tries
// whether it works again, whatever the others are busy with.
func (l *lane) full(senders int, now time.Time, limit int) bool {
	if now.Before(l.roomEnds) {
		limit = min(limit, l.room)
	}
	return now.Before(l.until) || senders > limit || l.failures > 0 && l.probes > 0
}

// glance is when a claim was begun: what was heard by then, it knows.
type glance struct {
	wakes, resumes uint64
	probe          bool // the lane was failing
}

// looked ends what begin began.
func (l *lane) looked(seen glance) {
	if seen.probe {
		l.probes--
	}
}

// begin returns how many mails to claim, and what the claim will know.
func (l *lane) begin() (limit int, seen glance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen = glance{l.wakes, l.resumes, l.failures > 0}
	if l.failures > 0 {
		l.probes++
		return 1, seen
	}
	return l.batch, seen
}

// claimed says that the sender has mails and looks at the queue no more for now. It reports whether there
// was a wake since its claim that it has kept another sender from.
func (l *lane) claimed(seen glance) (woken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claiming--
	return l.wakes != seen.wakes
}

// again says that the sender has done its mails, and reports whether it may claim more; if not, it
// counts no longer.
func (l *lane) again(now time.Time, seen glance, limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked(seen)
	if l.full(l.senders, now, limit) {
		l.senders--
		return false
	}
	l.claiming++
	return true
}

// leave reports whether a sender that found nothing may go: not if there was a wake since its claim, or a
// change of what it found.
func (l *lane) leave(seen glance, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked(seen)
	if (l.wakes != seen.wakes || l.resumes != seen.resumes) && !now.Before(l.until) {
		return false
	}
	l.senders--
	l.claiming--
	return true
}

// drop takes a sender off that ends while it claims.
func (l *lane) drop(seen glance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked(seen)
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

// roomTime is how long a server is left with fewer sessions that has refused one.
const roomTime = 5 * time.Second

// failed pauses the lane after a session that came to nothing, longer each time. Sessions that fail
// together count once, and those of a claim from before the lane was resumed not at all. If other
// senders have sessions that work, the server may only take no more of them, unless the failure is
// every session's.
func (l *lane) failed(now time.Time, seen glance, everySession bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resumes != seen.resumes || now.Before(l.until) {
		return
	}
	if delivering := l.senders - l.claiming; !everySession && l.failures == 0 && delivering > 1 {
		l.room, l.roomEnds = delivering-1, now.Add(roomTime)
		return
	}
	pause := maxPause
	if l.failures < 6 {
		pause = min(maxPause, minPause<<l.failures)
	}
	l.failures++
	l.until = now.Add(pause)
}

// worked ends what failed began. A batch that was cut off shows how many mails there is time for.
func (l *lane) worked(mails, tried int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = 0
	switch {
	case tried < mails:
		l.batch = max(minBatch, min(l.batch, tried))
	case took > batchTime:
		l.batch = max(minBatch, l.batch/2)
	case took < batchTime/2 && mails >= l.batch:
		l.batch = min(maxBatch, l.batch*2)
	}
}

// changed says that the providers have changed, unless that is known: it lifts every hold. It reports whether
// there was one, else nothing waits for it.
func (l *lane) changed(sequence uint64, now time.Time) (held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sequence <= l.sequence {
		return false
	}
	held = l.failures > 0 || l.until.After(now) || l.roomEnds.After(now)
	l.failures, l.until, l.roomEnds = 0, time.Time{}, time.Time{}
	l.sequence = sequence
	l.resumes++
	return held
}

// resumed reports whether the providers have changed since a claim was begun.
func (l *lane) resumed(seen glance) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resumes != seen.resumes
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
