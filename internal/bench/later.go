package main

import (
	"context"
	"time"
)

// laterChanges is how many changes are measured of an instance. More would make a new one old.
const laterChanges = 200

// later is a cell of changes of a new instance after so many earlier ones, by one caller, in calls a
// second.
func (b *bed) later(name string, on *backing, earlier int, call protocol) *cell {
	return &cell{name: name, unit: "calls/s", open: func() (measure, error) {
		return func(ctx context.Context) (s sample, err error) {
			changes, took := 0, time.Duration(0)
			for took < b.length {
				err := b.play(ctx, stage{on: on, address: "127.0.0.1:25", while: func(ctx context.Context, to *service) error {
					_, err := to.reconciled(ctx, func(ctx context.Context) (sample, int, error) {
						t, err := timed(ctx, to, earlier, call)
						took += t
						return sample{}, earlier + laterChanges, err
					})
					return err
				}})
				if err != nil {
					return s, err
				}
				changes += laterChanges
			}
			s.value = float64(changes) / took.Seconds()
			return s, nil
		}, nil
	}}
}

// timed makes the earlier changes, and returns how long the later ones took.
func timed(ctx context.Context, to *service, earlier int, call protocol) (time.Duration, error) {
	dial, err := to.dialer(call)
	if err != nil {
		return 0, err
	}
	c, err := dial(ctx, time.Now().Add(patience))
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }() // all calls were answered
	start := time.Now()
	for i := range earlier + laterChanges {
		if i == earlier {
			start = time.Now()
		}
		if err := c.call(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
