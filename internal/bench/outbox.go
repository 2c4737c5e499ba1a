package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// manyCallers is how many callers a busy service has.
const manyCallers = 64

// drains is a cell of the whole service, in mails a second. They are accepted before it runs; what is
// measured is from its start until the last is delivered, and durably recorded as that.
func (b *bed) drains(name string, on *backing, to opener, auth bool) *cell {
	return &cell{name: name, unit: "mails/s", open: func() (measure, error) {
		return taken(to, func(ctx context.Context, address string) (s sample, handed int, err error) {
			n := b.mails()
			var store *recording
			err = b.play(ctx, stage{
				on: on, address: address, auth: auth,
				wrap: func(s app.Store) app.Store {
					store = &recording{Store: s, all: make(chan struct{})}
					store.left.Store(int64(n))
					return store
				},
				before: func(to *service) error { return to.fill(ctx, n) },
				while: func(ctx context.Context, to *service) error {
					if s, err = store.drained(ctx, n, b.length+patience); err != nil {
						return err
					}
					delivered, err := to.mails(ctx, outbox.Delivered)
					if err == nil && delivered != n {
						err = fmt.Errorf("%d mails are delivered, want %d", delivered, n)
					}
					return err
				},
			})
			return s, n, err
		}), nil
	}}
}

// fill accepts mails.
func (s *service) fill(ctx context.Context, n int) error {
	var accepted atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range manyCallers {
		group.Go(func() error {
			for accepted.Add(1) <= int64(n) {
				if _, err := s.Messages.Send(ctx, instance.Default, draft()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	runtime.GC() // it is not the sender's garbage
	return err
}

// recording is a store that tells when so many mails are recorded as delivered.
type recording struct {
	app.Store
	left atomic.Int64
	all  chan struct{}
}

// Settle implements outbox.Queue.
func (r *recording) Settle(ctx context.Context, settlements []outbox.Settlement) ([]outbox.Lease, error) {
	refused, err := r.Store.Settle(ctx, settlements)
	if err != nil {
		return refused, err
	}
	n := -len(refused) // which is wrong for those that were not delivered; the count afterwards shows it
	for i := range settlements {
		if settlements[i].State == outbox.Delivered {
			n++
		}
	}
	if n > 0 && r.left.Add(int64(-n)) == 0 {
		close(r.all)
	}
	return refused, nil
}

// drained waits until all are, and returns mails a second and allocations a mail.
func (r *recording) drained(ctx context.Context, n int, limit time.Duration) (s sample, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.all:
	case <-timer.C:
		return s, fmt.Errorf("%d of %d mails were not delivered within %s", r.left.Load(), n, limit)
	case <-ctx.Done():
		return s, ctx.Err()
	}
	s.value = float64(n) / time.Since(start).Seconds()
	runtime.ReadMemStats(&after)
	s.allocs = float64(after.Mallocs-before.Mallocs) / float64(n)
	return s, nil
}
