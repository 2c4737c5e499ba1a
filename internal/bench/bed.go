package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// adminToken is the token of every service on the bed.
const adminToken = "the-benchmark-knocks-with-this-token"

// bed is what the cells run on: a temporary folder, and services that start when first needed.
type bed struct {
	dir    string
	length time.Duration // of a measurement

	sqlite func() (*service, error) // the service as it is
	memory func() (*service, error) // the same without a store behind its reads
	binary func() (*program, error) // the program as it is released

	serving  context.Context
	stop     context.CancelFunc
	services errgroup.Group
}

func newBed(length time.Duration) (*bed, error) {
	dir, err := os.MkdirTemp("", "mailkeep-bench-")
	if err != nil {
		return nil, err
	}
	b := &bed{dir: dir, length: length}
	b.serving, b.stop = context.WithCancel(context.Background())
	b.sqlite = sync.OnceValues(func() (*service, error) { return b.serve("sqlite", nil) })
	b.memory = sync.OnceValues(func() (*service, error) { return b.serve("memory", remember) })
	b.binary = sync.OnceValues(func() (*program, error) { return build(b.serving, dir) })
	return b, nil
}

// close stops what runs and removes the folder.
func (b *bed) close() error {
	b.stop()
	return errors.Join(b.services.Wait(), os.RemoveAll(b.dir))
}

// service is a running service in this process with one SMTP provider.
type service struct {
	address  string // host:port
	provider string // its id
}

// serve starts a service with a data folder of this name.
func (b *bed) serve(name string, wrap func(app.Store) app.Store) (*service, error) {
	a, provider, err := open(b.serving, filepath.Join(b.dir, name), wrap)
	if err != nil {
		return nil, err
	}
	b.services.Go(func() error { return a.Run(b.serving) })
	return &service{address: strings.TrimPrefix(a.URL(), "http://"), provider: provider}, nil
}

// open opens a service on a new data folder and adds a provider. It logs what a real one does, to
// nowhere.
func open(ctx context.Context, dir string, wrap func(app.Store) app.Store) (a *app.App, provider string, err error) {
	a, err = app.Open(ctx, app.Config{
		Listen: "127.0.0.1:0", DataDir: dir, AdminToken: secret.New(adminToken), DrainTimeout: time.Second,
		Log:       slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo})),
		WrapStore: wrap,
	})
	if err != nil {
		return nil, "", err
	}
	p, err := a.Providers.AddSMTP(ctx, emailprovider.Caller{Instance: instance.Default}, emailprovider.SMTPSettings{
		Description: "Production relay", SenderAddress: "noreply@example.com", SenderName: "Example",
		ReplyTo: "support@example.com", Host: "smtp.example.com:587", TLS: true, User: "mailer@example.com",
		Auth: emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain, Secret: secret.New(password)},
	})
	return a, p.ID, err
}
