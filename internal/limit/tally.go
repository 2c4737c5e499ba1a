package limit

import (
	"context"
	"sync"
	"time"
)

// How old a count may be: when there seems to be no room, and at all.
const (
	recountFull = time.Second
	recountEver = 5 * time.Second
)

// Tally remembers how many of something each instance has, and counts anew now and then only: of what comes and
// goes with nearly every call. What this process adds is counted at once. What goes, and what other processes
// add, is seen with the next count: after 5 s at the latest, and when there is no room after 1 s. So an instance
// may go over its bound by what other processes add in that time. It is safe for concurrent use.
type Tally struct {
	policies Policies
	what     string
	most     func(Limits) int
	count    func(ctx context.Context, instance string) (int, error)
	now      func() time.Time

	mu    sync.Mutex
	known map[string]*tally
}

type tally struct {
	n        int // counted, and added since
	added    int // since the count began that is under way
	counting bool
	at       time.Time // of the last count; zero for none
}

// NewTally returns a Tally of what count counts.
func NewTally(p Policies, what string, most func(Limits) int, count func(ctx context.Context, instance string) (int, error), now func() time.Time) *Tally {
	return &Tally{policies: p, what: what, most: most, count: count, now: now, known: map[string]*tally{}}
}

// Add counts one more of the instance, or returns why it may not have that.
func (t *Tally) Add(ctx context.Context, instance string) error {
	limits, err := t.policies.Limits(ctx, instance)
	most := t.most(limits)
	if err != nil || most == 0 {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.known[instance]
	if e == nil {
		e = &tally{}
		t.known[instance] = e
	}
	if !e.counting && t.isOld(e, most) {
		if err := t.recount(ctx, instance, e); err != nil {
			return err
		}
	}
	if e.n >= most {
		return overQuota(most, t.what)
	}
	e.n++
	e.added++
	return nil
}

func (t *Tally) isOld(e *tally, most int) bool {
	age := t.now().Sub(e.at)
	return age >= recountEver || e.n >= most && age >= recountFull
}

// recount counts without the lock: others go by what was counted before.
func (t *Tally) recount(ctx context.Context, instance string, e *tally) error {
	e.counting, e.added = true, 0
	t.mu.Unlock()
	n, err := t.count(ctx, instance)
	t.mu.Lock()
	e.counting = false
	if err == nil {
		e.n, e.at = n+e.added, t.now()
	}
	return err
}
