package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	// sessions is how many there are with a mail server at a time.
	sessions = 4
	// batch is how many mails the transport is given at a time.
	batch = 100
	// mailsPerSecond is how many mails a cell hands over for each second of --length, if it is told
	// their number and not the time.
	mailsPerSecond = 20_000
)

// mails returns how many mails a cell hands over.
func (b *bed) mails() int { return max(10*sessions, int(mailsPerSecond*b.length.Seconds())) }

// taken is a measurement with a server of its own, which must have taken as many mails as were handed
// over.
func taken(open opener, hand func(ctx context.Context, address string) (s sample, handed int, err error)) measure {
	return func(ctx context.Context) (sample, error) {
		to, err := open()
		if err != nil {
			return sample{}, err
		}
		s, handed, err := hand(ctx, to.address())
		took, closeErr := to.close()
		if err := errors.Join(err, closeErr); err != nil {
			return s, err
		}
		if took != handed {
			return s, fmt.Errorf("%d mails were handed over, and the server has taken %d", handed, took)
		}
		return s, nil
	}
}

// carries is a cell of the transport with kept sessions, in mails a second.
func (b *bed) carries(name string, to opener, via emailprovider.Route) *cell {
	return b.transports(name, to, via, batch, func(ctx context.Context, t *delivery.Transport, via emailprovider.Route, mails []emailprovider.Mail) (err error) {
		t.Carry(ctx, via, mails, func(_ int, d emailprovider.Delivery) bool {
			switch {
			case d.Failed != nil:
				err = errors.Join(err, d.Failed)
			case d.Untried:
				err = errors.Join(err, errors.New("a mail was not tried"))
			}
			return true
		})
		return err
	})
}

// dials is a cell of the transport with a connection for each mail, in mails a second.
func (b *bed) dials(name string, to opener, via emailprovider.Route) *cell {
	return b.transports(name, to, via, 1, func(ctx context.Context, t *delivery.Transport, via emailprovider.Route, mails []emailprovider.Mail) error {
		return t.Deliver(ctx, via, mails[0])
	})
}

// hander hands mails over by a transport.
type hander func(context.Context, *delivery.Transport, emailprovider.Route, []emailprovider.Mail) error

func (b *bed) transports(name string, to opener, via emailprovider.Route, batch int, hand hander) *cell {
	return &cell{name: name, unit: "mails/s", open: func() (measure, error) {
		return taken(to, func(ctx context.Context, address string) (sample, int, error) {
			t := delivery.New(delivery.Options{Roots: b.roots, Sessions: sessions})
			defer t.Close()
			to := *via.SMTP
			to.Host = address
			via.SMTP = &to
			return load{callers: sessions, length: b.length, worth: batch, dial: func(ctx context.Context, deadline time.Time) (caller, error) {
				ctx, cancel := context.WithDeadline(ctx, deadline)
				mails := mails(batch)
				return &handing{cancel, func() error { return hand(ctx, t, via, mails) }}, nil
			}}.run(ctx)
		}), nil
	}}
}

// handing hands over the same mails at each call.
type handing struct {
	cancel context.CancelFunc
	hand   func() error
}

func (h *handing) call() error { return h.hand() }

// Close implements caller.
func (h *handing) Close() error {
	h.cancel()
	return nil
}

// routeTo is a provider with or without TLS and AUTH.
func routeTo(useTLS, auth bool) emailprovider.Route {
	via := emailprovider.Route{
		Instance: "default", ProviderID: "1", Sequence: 1, CredentialVersion: 1,
		SMTP: &emailprovider.SMTP{SenderAddress: sender, SenderName: "Example", TLS: useTLS},
	}
	if auth {
		via.SMTP.User, via.SMTP.Auth, via.Secret = user, emailprovider.AuthPlain, secret.New(password)
	}
	return via
}
