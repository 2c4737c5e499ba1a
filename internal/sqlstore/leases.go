package sqlstore

import (
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
)

const (
	// leaseTerm is how long after the beginning of its read a token is used from memory.
	leaseTerm = 250 * time.Millisecond

	// leasesOver is how long whoever takes a token away waits: a term by clocks whose rates are a tenth apart.
	leasesOver = leaseTerm + leaseTerm/10

	// mostLeases is how many tokens are kept; the next one replaces them all.
	mostLeases = 4096
)

// leases keep tokens for a term, in a database that other processes take tokens away from. These send no
// messages: who takes a token away, or changes it, waits after the commit, and then says so (over).
//
// So it is exact. A read that began before the commit may have found the token, and it is used until that
// beginning and a term, which is before the commit and a term. A read that began after the commit does not find
// it. What is not found is not kept, so that nobody waits who adds a token.
//
// What a server has said is forgotten when another has taken over, as ever. A term ends by the clock that says so
// first: the monotonic one stands still while the machine sleeps, and the wall clock may be set.
type leases struct {
	now  func() instant
	wait func(time.Duration)

	mu     sync.Mutex
	epoch  uint32 // that all are of; see engine.epoch
	tokens map[[32]byte]lease
}

type lease struct {
	token auth.Token
	begun instant // its read
}

// instant is a moment by two clocks.
type instant struct{ monotonic, wall time.Duration }

func newLeases() *leases {
	started := time.Now()
	return &leases{wait: time.Sleep, now: func() instant {
		t := time.Now()
		return instant{t.Sub(started), time.Duration(t.UnixNano())}
	}}
}

// get returns the token with the hash if there is a lease of it, or when its read begins.
func (l *leases) get(epoch uint32, hash [32]byte) (token auth.Token, ok bool, now instant) {
	now = l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	kept, ok := l.tokens[hash]
	if !ok || l.epoch != epoch || !kept.begun.within(now) {
		return auth.Token{}, false, now
	}
	return kept.token, true, now
}

// within reports whether the term of a read that began at this instant is not over.
func (i instant) within(now instant) bool {
	monotonic, wall := now.monotonic-i.monotonic, now.wall-i.wall
	return 0 <= monotonic && monotonic < leaseTerm && 0 <= wall && wall < leaseTerm
}

// put keeps a token that was found by a read which began then, in an epoch.
func (l *leases) put(epoch uint32, token auth.Token, begun instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch < l.epoch {
		return
	}
	if l.tokens == nil || len(l.tokens) >= mostLeases || epoch > l.epoch {
		l.tokens, l.epoch = map[[32]byte]lease{}, epoch
	}
	l.tokens[token.Hash] = lease{token, begun}
}

// over waits until nobody has a lease any more that was there before. It does not end sooner for anybody: that
// a token is gone must be true when it is said.
func (l *leases) over() { l.wait(leasesOver) }
