package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
)

// accepts is a cell of SendMessage by so many callers, in calls a second. The mail server never says a
// word, so that nothing is sent meanwhile: the one sender that tries it waits for its greeting.
func (b *bed) accepts(name string, callers int, call func(*service) (dialer, error)) *cell {
	return b.silent(name, func(s *service) (load, error) {
		dial, err := call(s)
		return load{callers: callers, length: b.length, dial: dial}, err
	})
}

// oneCommit is a cell of a bare loop that makes a mail durable with a commit of its own and has nothing
// else to do, in mails a second. More callers would not make it faster: there is one disk to wait for.
func (b *bed) oneCommit(name string) *cell {
	return &cell{name: name, unit: "mails/s", open: func() (measure, error) {
		c, err := b.claims()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) (sample, error) { return c.accept(ctx, b.length) }, nil
	}}
}

// silent is a cell of a load on a service that can't send, which must have as many mails afterwards as
// there were calls.
func (b *bed) silent(name string, of func(*service) (load, error)) *cell {
	return &cell{name: name, unit: "mails/s", open: func() (measure, error) {
		return func(ctx context.Context) (s sample, err error) {
			silence, err := net.Listen("tcp", "127.0.0.1:0") // the kernel connects, and nobody answers
			if err != nil {
				return s, err
			}
			defer func() { err = errors.Join(err, silence.Close()) }()
			return s, b.play(ctx, stage{
				address: silence.Addr().String(),
				while: func(ctx context.Context, a *app.App, to *service) error {
					l, err := of(to)
					if err != nil {
						return err
					}
					var calls int
					if s, calls, err = l.run(ctx); err != nil {
						return err
					}
					kept, err := count(ctx, a)
					if err == nil && kept != calls {
						err = fmt.Errorf("%d mails were accepted, and there are %d", calls, kept)
					}
					return err
				},
			})
		}, nil
	}}
}

// oneChange is a cell of a bare loop that changes a password with a commit for each, in changes a
// second.
func (b *bed) oneChange(name string) *cell {
	return &cell{name: name, unit: "calls/s", open: func() (measure, error) {
		return func(ctx context.Context) (s sample, err error) {
			var store app.Store
			return s, b.play(ctx, stage{
				address: "127.0.0.1:25",
				wrap:    func(s app.Store) app.Store { store = s; return s },
				while: func(ctx context.Context, _ *app.App, to *service) error {
					p, err := store.Provider(ctx, instance.Default, to.provider)
					if err != nil {
						return err
					}
					s, err = load{callers: 1, length: b.length, dial: func(context.Context, time.Time) (caller, error) {
						return &changing{ctx, store, p}, nil
					}}.measure(ctx)
					return err
				},
			})
		}, nil
	}}
}

// changing changes a provider as the service does.
type changing struct {
	ctx   context.Context
	store app.Store
	p     emailprovider.Provider
}

func (c *changing) call() (err error) {
	c.p.Credential.Version++
	c.p.Changed = time.Now()
	c.p.Sequence, err = c.store.Apply(c.ctx, emailprovider.Change{
		Event: emailprovider.Event{
			Instance: instance.Default, Type: emailprovider.EventPasswordChanged, ProviderID: c.p.ID, At: c.p.Changed,
			Fields: []string{"password"}, By: emailprovider.Actor{Name: "bench", Protocol: "connect"},
		},
		Expect: c.p.Sequence, ExpectKey: c.p.Credential.Sealed.KeyID, Put: &c.p,
	})
	return err
}

// Close implements caller.
func (*changing) Close() error { return nil }
