package main

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// patience is how much longer than planned a measurement may take.
const patience = 30 * time.Second

// caller makes the same call over and over, one at a time.
type caller interface {
	call() error
	Close() error
}

// load is a closed loop: each caller makes its next call when the one before was answered.
type load struct {
	callers int
	length  time.Duration
	dial    dialer
	worth   int // how many a call counts for; 0 for 1
}

// measure is run without the total.
func (l load) measure(ctx context.Context) (sample, error) {
	s, _, err := l.run(ctx)
	return s, err
}

// run returns calls a second and allocations a call, after a fifth of the length to warm up, and how
// many calls there were in all. Allocations are those of the process: the callers must not make any.
func (l load) run(ctx context.Context) (s sample, total int, err error) {
	group, ctx := errgroup.WithContext(ctx)
	var calls atomic.Int64
	var done atomic.Bool
	for range l.callers {
		group.Go(func() error { return l.loop(ctx, &calls, &done) })
	}
	group.Go(func() error {
		defer done.Store(true)
		if err := wait(ctx, l.length/5); err != nil {
			return err
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start, first := time.Now(), calls.Load()
		err := wait(ctx, l.length)
		for err == nil && calls.Load() == first { // calls that take longer than that
			err = wait(ctx, l.length)
		}
		elapsed, n := time.Since(start), float64(calls.Load()-first)
		runtime.ReadMemStats(&after)
		s = sample{value: n / elapsed.Seconds(), allocs: float64(after.Mallocs-before.Mallocs) / n}
		return err
	})
	err = group.Wait()
	return s, int(calls.Load()), err
}

func (l load) loop(ctx context.Context, calls *atomic.Int64, done *atomic.Bool) error {
	c, err := l.dial(ctx, time.Now().Add(l.length*6/5+patience))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // all calls were answered
	for !done.Load() && ctx.Err() == nil {
		if err := c.call(); err != nil {
			return err
		}
		calls.Add(int64(max(1, l.worth)))
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
