package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// pool keeps sessions between mails. A session is only ever used for the state of the provider that it
// was opened for.
type pool struct {
	// limit is how many sessions a provider may have at once, in use or idle. Those of an earlier
	// state that are saying goodbye do not count.
	limit int
	idle  time.Duration // after which an unused session is closed

	mu     sync.Mutex
	docks  map[place]*dock // of providers with a session, or somebody who wants one
	closed bool
}

// place is a provider.
type place struct{ instance, provider string }

// edition is a state of a provider: settings and credential.
type edition struct{ sequence, credential uint64 }

func (e edition) before(other edition) bool {
	return e.sequence < other.sequence || e.sequence == other.sequence && e.credential < other.credential
}

// dock is where the sessions of one provider are.
type dock struct {
	berths chan struct{} // one element for each session in use
	guests int           // who have a berth or wait for one
	newest edition       // that was asked for
	idle   []*kept       // the last is the one that was used last
}

type kept struct {
	*session
	edition edition
	timer   *time.Timer
}

// berth is the right to use one session at a time.
type berth struct {
	pool    *pool
	place   place
	edition edition
	dock    *dock
}

func newPool(limit int, idle time.Duration) *pool {
	return &pool{limit: limit, idle: idle, docks: map[place]*dock{}}
}

// enter waits for a berth. Idle sessions of earlier states of the provider are closed first.
func (p *pool) enter(ctx context.Context, via emailprovider.Route) (*berth, error) {
	b := &berth{
		pool: p, place: place{via.Instance, via.ProviderID}, edition: edition{via.Sequence, via.CredentialVersion},
	}
	endAll(b.arrive())
	select {
	case b.dock.berths <- struct{}{}:
		return b, nil
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		b.depart()
		return nil, ctx.Err()
	}
}

// arrive returns the sessions that nobody is to use from now on.
func (b *berth) arrive() (old []*session) {
	p := b.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.dock = p.docks[b.place]; b.dock == nil {
		b.dock = &dock{berths: make(chan struct{}, p.limit)}
		p.docks[b.place] = b.dock
	}
	b.dock.guests++
	if b.dock.newest.before(b.edition) {
		b.dock.newest = b.edition
		old = b.dock.remove(func(k *kept) bool { return k.edition.before(b.edition) })
	}
	return old
}

// leave gives the berth back.
func (b *berth) leave() {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	<-b.dock.berths
	b.depart()
}

// depart and forget are called with the lock held.
func (b *berth) depart() {
	b.dock.guests--
	b.pool.forget(b.place, b.dock)
}

func (p *pool) forget(at place, d *dock) {
	if d.guests == 0 && len(d.idle) == 0 && p.docks[at] == d {
		delete(p.docks, at)
	}
}

// take returns an idle session, or nil if there is none; then there is room for a new one.
func (b *berth) take() *session {
	s, excess := b.choose()
	endAll(excess)
	return s
}

func (b *berth) choose() (s *session, excess []*session) {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	for _, k := range slices.Backward(b.dock.idle) {
		if k.edition == b.edition {
			return b.dock.remove(func(other *kept) bool { return other == k })[0], nil
		}
	}
	if len(b.dock.berths)+len(b.dock.idle) <= b.pool.limit {
		return nil, nil
	}
	// Only one: whoever else is short of room has to wait for the end of one too, and not dial meanwhile.
	oldest := b.dock.idle[0]
	return nil, b.dock.remove(func(k *kept) bool { return k == oldest })
}

// clear closes the idle sessions: what has ended one in silence has probably ended all.
func (b *berth) clear() {
	b.pool.mu.Lock()
	all := b.dock.remove(func(*kept) bool { return true })
	b.pool.mu.Unlock()
	endAll(all)
}

// put keeps a session for the next mail, or ends it.
func (b *berth) put(s *session) {
	if !b.keep(s) {
		s.end(context.Background())
	}
}

// keep does not keep a session that can't be used any more, one of an earlier state of the provider,
// and one for settings that are not stored, which nobody can ask for.
func (b *berth) keep(s *session) bool {
	p := b.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.usable() || p.closed || b.edition.before(b.dock.newest) || b.place.provider == "" {
		return false
	}
	k := &kept{session: s, edition: b.edition}
	k.timer = time.AfterFunc(p.idle, func() { p.expire(b.place, b.dock, k) })
	b.dock.idle = append(b.dock.idle, k)
	return true
}

func (p *pool) expire(at place, d *dock, k *kept) {
	p.mu.Lock()
	expired := d.remove(func(other *kept) bool { return other == k })
	p.forget(at, d)
	p.mu.Unlock()
	endAll(expired)
}

// close ends the idle sessions. Those in use end when they come back.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []*session
	for at, d := range p.docks {
		all = append(all, d.remove(func(*kept) bool { return true })...)
		p.forget(at, d)
	}
	p.mu.Unlock()
	endAll(all)
}

// drop ends the idle sessions of an instance.
func (p *pool) drop(instance string) {
	p.mu.Lock()
	var all []*session
	for at, d := range p.docks {
		if at.instance == instance {
			all = append(all, d.remove(func(*kept) bool { return true })...)
			p.forget(at, d)
		}
	}
	p.mu.Unlock()
	endAll(all)
}

// remove takes sessions out of the idle ones. It is called with the lock held.
func (d *dock) remove(unwanted func(*kept) bool) (removed []*session) {
	d.idle = slices.DeleteFunc(d.idle, func(k *kept) bool {
		if !unwanted(k) {
			return false
		}
		k.timer.Stop()
		removed = append(removed, k.session)
		return true
	})
	return removed
}

// endAll ends sessions, all at the same time.
func endAll(all []*session) {
	var goodbyes sync.WaitGroup
	for _, s := range all {
		goodbyes.Go(func() { s.end(context.Background()) })
	}
	goodbyes.Wait()
}
