package outbox

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// leases are the mails that this process has claimed and not settled yet.
type leases struct {
	mu    sync.Mutex
	held  map[Lease]struct{}
	until time.Time // before which none of them passes, if any is held
}

func (l *leases) add(one Lease, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[Lease]struct{}{}
	}
	if len(l.held) == 0 || until.Before(l.until) {
		l.until = until
	}
	l.held[one] = struct{}{}
}

func (l *leases) remove(one Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, one)
}

// any reports whether any of the settlements' leases is still held.
func (l *leases) any(settlements []Settlement) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(settlements, func(s Settlement) bool { _, ok := l.held[s.Lease]; return ok })
}

func (l *leases) list() []Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.held))
}

// last says until when all of them last.
func (l *leases) last(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = until
}

// passing reports whether one of them may have passed at the time.
func (l *leases) passing(at time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held) > 0 && !at.Before(l.until)
}

// beat keeps the leases while mails are under way.
func (w *Worker) beat(ctx context.Context) {
	ticker := time.NewTicker(w.Lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := w.extend(ctx); err != nil && ctx.Err() == nil {
			w.Log.ErrorContext(ctx, "leases on mails can't be extended; trying again", "err", err)
		}
	}
}

// extend makes the leases last, and forgets those that are lost.
func (w *Worker) extend(ctx context.Context) error {
	held := w.leases.list()
	if len(held) == 0 {
		return nil
	}
	until := w.now().Add(w.Lease)
	lost, err := w.Queue.Extend(ctx, held, until)
	if err != nil {
		return err
	}
	for _, l := range lost {
		w.leases.remove(l)
	}
	w.leases.last(until)
	return nil
}

// keep extends the leases if heartbeats were missed: what this process is sending, or can't settle, must
// not look abandoned to itself.
func (w *Worker) keep(ctx context.Context, now time.Time) error {
	if !w.leases.passing(now.Add(w.Lease / 3)) {
		return nil
	}
	return w.extend(ctx)
}
