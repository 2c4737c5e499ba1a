package deprecation

import (
	"context"
	"sync"
	"time"
)

// maxPending bounds the entries between two flushes; more are counted under Other.
const maxPending = 1000

// key is what makes two uses the same entry.
type key struct{ instance, method, caller, userAgent string }

// Recorder counts uses in memory and adds them to the Store when flushed, so that a deprecated read
// stays a read. It is safe for concurrent use.
type Recorder struct {
	store Store
	now   func() time.Time

	mu      sync.Mutex
	pending map[key]*Use
}

// NewRecorder returns a Recorder; now is time.Now outside of tests.
func NewRecorder(store Store, now func() time.Time) *Recorder {
	return &Recorder{store: store, now: now, pending: map[key]*Use{}}
}

// Record counts one use.
func (r *Recorder) Record(instance, method, caller, userAgent string) {
	now := r.now().UTC().Truncate(time.Microsecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{instance, method, caller, userAgent}
	if r.pending[k] == nil && len(r.pending) >= maxPending {
		k.caller, k.userAgent = Other, Other
	}
	u := r.pending[k]
	if u == nil {
		u = &Use{Instance: instance, Method: method, Caller: k.caller, UserAgent: k.userAgent, First: now}
		r.pending[k] = u
	}
	u.Calls++
	u.Last = now
}

// Flush moves what was counted into the store; after a failure it stays counted.
func (r *Recorder) Flush(ctx context.Context) error {
	r.mu.Lock()
	flushing := r.pending
	r.pending = map[key]*Use{}
	r.mu.Unlock()
	if len(flushing) == 0 {
		return nil
	}
	uses := make([]Use, 0, len(flushing))
	for _, u := range flushing {
		uses = append(uses, *u)
	}
	err := r.store.AddUses(ctx, uses)
	if err != nil {
		r.putBack(flushing)
	}
	return err
}

func (r *Recorder) putBack(uses map[key]*Use) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, u := range uses {
		if newer := r.pending[k]; newer != nil {
			u.Calls, u.Last = u.Calls+newer.Calls, newer.Last
		}
		r.pending[k] = u
	}
}

// Run flushes every interval until ctx ends, and once more then. Failures go to report.
func (r *Recorder) Run(ctx context.Context, interval time.Duration, report func(error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		if err := r.Flush(flushing); err != nil {
			report(err)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
	}
}

// Uses returns all uses of the instance up to now, the latest first.
func (r *Recorder) Uses(ctx context.Context, instance string) ([]Use, error) {
	if err := r.Flush(ctx); err != nil {
		return nil, err
	}
	return r.store.Uses(ctx, instance)
}
