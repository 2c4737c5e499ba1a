package limit

import (
	"context"
	"slices"
	"sync"
	"time"
)

// portion is how many times what is still free a key may have. One alone gets four fifths of the slots, so
// there is a free one whenever another comes; two get four ninths each.
const portion = 4

// Gate lets a number of calls in at a time. Each key has its share: no key gets all slots, and when there are
// calls that wait, the next is one of the key that has the fewest in. A few wait in line; when that is full,
// whoever comes takes the place of the last of the key with the longest part of it, if that is longer than its
// own. It is safe for concurrent use.
type Gate struct {
	slots int
	line  int           // calls that may wait
	wait  time.Duration // that one may

	mu      sync.Mutex
	in      int
	waiting int
	shares  map[string]*share // of keys that have calls in or in line
	hungry  []*share          // those in line; who was served last is last
	spare   []*share
}

// share is what a key has of a Gate.
type share struct {
	key  string
	in   int
	line []*waiter // first come first
}

// waiter is a call in line. It is told once, and holds a slot if that was true.
type waiter struct{ told chan bool }

// NewGate returns a Gate with slots, and a line of calls that wait at most a time.
func NewGate(slots, line int, wait time.Duration) *Gate {
	return &Gate{slots: slots, line: line, wait: wait, shares: map[string]*share{}}
}

// Enter reports whether a call may come in. most bounds what the key has in; 0 is no bound but its share. After
// true there must be a Leave.
func (g *Gate) Enter(ctx context.Context, key string, most int) bool {
	g.mu.Lock()
	s := g.share(key)
	if g.fits(s) && (most == 0 || s.in < most) {
		g.in++
		s.in++
		g.mu.Unlock()
		return true
	}
	if !g.mayWait(s) || most > 0 && s.in >= most {
		g.drop(s)
		g.mu.Unlock()
		return false
	}
	w := &waiter{make(chan bool, 1)}
	s.line = append(s.line, w)
	g.waiting++
	if len(s.line) == 1 {
		g.hungry = append(g.hungry, s)
	}
	g.mu.Unlock()
	return g.await(ctx, s, w)
}

// In returns how many calls of a key are in.
func (g *Gate) In(key string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.shares[key]; s != nil {
		return s.in
	}
	return 0
}

// Leave gives back what Enter gave.
func (g *Gate) Leave(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.shares[key]
	g.in--
	s.in--
	for g.admit() {
	}
	g.drop(s)
}

// await waits for a slot.
func (g *Gate) await(ctx context.Context, s *share, w *waiter) bool {
	timer := time.NewTimer(g.wait)
	defer timer.Stop()
	select {
	case admitted := <-w.told:
		return admitted
	case <-ctx.Done():
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case admitted := <-w.told:
		return admitted
	default:
	}
	g.unline(s, slices.Index(s.line, w))
	g.drop(s)
	return false
}

// share returns the share of a key.
func (g *Gate) share(key string) *share {
	if s := g.shares[key]; s != nil {
		return s
	}
	n := len(g.spare)
	if n == 0 {
		g.spare, n = append(g.spare, new(share)), 1
	}
	s := g.spare[n-1]
	g.spare = g.spare[:n-1]
	s.key = key
	g.shares[key] = s
	return s
}

// drop forgets a share that has nothing.
func (g *Gate) drop(s *share) {
	if s.in == 0 && len(s.line) == 0 && g.shares[s.key] == s {
		delete(g.shares, s.key)
		g.spare = append(g.spare, s)
	}
}

// fits reports whether one more of the share may be in.
func (g *Gate) fits(s *share) bool { return s.in < portion*(g.slots-g.in) }

// mayWait reports whether one more of the share may stand in line, and makes the place for it.
func (g *Gate) mayWait(s *share) bool {
	if g.waiting < g.line {
		return true
	}
	longest := s
	for _, other := range g.hungry {
		if len(other.line) > len(longest.line) {
			longest = other
		}
	}
	last := len(longest.line) - 1
	if last <= len(s.line) {
		return false
	}
	longest.line[last].told <- false
	g.unline(longest, last)
	return true
}

// admit lets in the first in line of the key that has the fewest in, if there is one that fits.
func (g *Gate) admit() bool {
	var next *share
	for _, s := range g.hungry {
		if next == nil || s.in < next.in {
			next = s
		}
	}
	if next == nil || !g.fits(next) {
		return false
	}
	g.in++
	next.in++
	next.line[0].told <- true
	g.unline(next, 0)
	if len(next.line) > 0 { // its next turn is after the others'
		i := slices.Index(g.hungry, next)
		g.hungry = append(slices.Delete(g.hungry, i, i+1), next)
	}
	return true
}

// unline takes a waiter out of its line.
func (g *Gate) unline(s *share, i int) {
	s.line = slices.Delete(s.line, i, i+1)
	g.waiting--
	if len(s.line) == 0 {
		at := slices.Index(g.hungry, s)
		g.hungry = slices.Delete(g.hungry, at, at+1)
	}
}
