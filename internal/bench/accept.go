package main

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// accepts is a cell of SendMessage by so many callers, in calls a second. The mail server never says a
// word, so that nothing is sent meanwhile: the one sender that tries it waits for its greeting.
func (b *bed) accepts(name string, on *backing, callers int, call protocol) *cell {
	return b.silent(name, on, func(s *service) (load, error) {
		dial, err := s.dialer(call)
		return load{callers: callers, length: b.length, dial: dial}, err
	})
}

// silent is a cell of a load on a service that can't send, which must have as many mails afterwards as
// there were calls.
func (b *bed) silent(name string, on *backing, of func(*service) (load, error)) *cell {
	return &cell{name: name, unit: "mails/s", open: func() (measure, error) {
		return func(ctx context.Context) (s sample, err error) {
			silence, err := net.Listen("tcp", "127.0.0.1:0") // the kernel connects, and nobody answers
			if err != nil {
				return s, err
			}
			defer func() { err = errors.Join(err, silence.Close()) }()
			return s, b.play(ctx, stage{
				on: on, address: silence.Addr().String(),
				while: func(ctx context.Context, to *service) error {
					l, err := of(to)
					if err != nil {
						return err
					}
					var calls int
					if s, calls, err = l.run(ctx); err != nil {
						return err
					}
					kept, err := to.mails(ctx)
					if err == nil && kept != calls {
						err = fmt.Errorf("%d mails were accepted, and there are %d", calls, kept)
					}
					return err
				},
			})
		}, nil
	}}
}
