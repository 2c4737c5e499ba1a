package outbox

import (
	"context"
	"sync"
)

// proof is a sender's try of a credential.
type proof struct {
	of   credential
	done chan struct{} // closed when it knows
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
func (l *lane) prove(ctx context.Context, c credential, seen glance) (proved func(worked bool), ok bool) {
	for {
		l.mu.Lock()
		known, stale, others := l.proven == c, l.resumes != seen.resumes, l.proving
		if others != nil && others.of != c {
			others = nil // nobody waits for what is not used any more
		}
		mine := &proof{c, make(chan struct{})}
		if !known && !stale && others == nil {
			l.proving = mine
		}
		l.mu.Unlock()
		switch {
		case stale:
			return nil, false
		case known:
			return func(bool) {}, true
		case others == nil:
			var once sync.Once
			return func(worked bool) { once.Do(func() { l.proved(mine, worked) }) }, true
		}
		select {
		case <-others.done:
		case <-ctx.Done():
			return nil, false
		}
		if l.failing() {
			return nil, false
		}
	}
}

func (l *lane) proved(p *proof, worked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(p.done)
	if l.proving != p {
		return
	}
	l.proving = nil
	if worked {
		l.proven = p.of
	}
}

func (l *lane) failing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failures > 0
}
