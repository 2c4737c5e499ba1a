package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// stage is a service on a new data folder for one measurement, so that none pays for the mails of the
// one before.
type stage struct {
	address string // of the mail server
	auth    bool   // that it demands
	wrap    func(app.Store) app.Store
	before  func(*app.App) error                            // while it does not run; nil for nothing
	while   func(context.Context, *app.App, *service) error // while it runs
}

// play opens the service, runs it, ends it and removes its folder.
func (b *bed) play(ctx context.Context, s stage) (err error) {
	dir, err := os.MkdirTemp(b.dir, "stage-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a, err := app.Open(ctx, app.Config{
		Listen: "127.0.0.1:0", DataDir: dir, AdminToken: secret.New(adminToken), DrainTimeout: 10 * time.Millisecond,
		Sessions: sessions, Log: quiet(), WrapStore: s.wrap,
	})
	if err != nil {
		return err
	}
	p, err := s.activate(ctx, a)
	if err == nil && s.before != nil {
		err = s.before(a)
	}
	if err != nil {
		return errors.Join(err, a.Close())
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running) }()
	err = s.while(ctx, a, serviceOf(a, p))
	stop()
	return errors.Join(err, <-ended)
}

// activate adds the mail server as the active provider, and returns its id.
func (s stage) activate(ctx context.Context, a *app.App) (string, error) {
	in := emailprovider.SMTPSettings{SenderAddress: sender, SenderName: "Example", Host: s.address}
	if s.auth {
		in.User, in.Auth = user, emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain, Secret: secret.New(password)}
	}
	who := emailprovider.Caller{Instance: instance.Default}
	p, err := a.Providers.AddSMTP(ctx, who, in)
	if err == nil {
		_, err = a.Providers.Activate(ctx, who, p.ID)
	}
	return p.ID, err
}

// count returns how many mails of the service are in one of the states, or in any if none is named.
func count(ctx context.Context, a *app.App, states ...outbox.State) (n int, err error) {
	f := outbox.Filter{States: states, Limit: 1000}
	for {
		page, next, err := a.Messages.List(ctx, instance.Default, f)
		if n += len(page); err != nil || next == "" {
			return n, err
		}
		f.After = next
	}
}
