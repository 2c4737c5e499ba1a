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
	mu   sync.Mutex
	held map[Lease]struct{}
}

func (l *leases) add(one Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[Lease]struct{}{}
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
		held := w.leases.list()
		if len(held) == 0 {
			continue
		}
		lost, err := w.Queue.Extend(ctx, held, w.now().Add(w.Lease))
		if err != nil && ctx.Err() == nil {
			w.Log.ErrorContext(ctx, "leases on mails can't be extended; trying again", "mails", len(held), "err", err)
		}
		for _, l := range lost {
			w.leases.remove(l)
		}
	}
}
