package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	pool   func() (*service, error) // the service as it is, with a provider for each of many callers
	binary func() (*program, error) // the program as it is released
	claims func() (*claims, error)  // the store's benchmark

	yardstick yardstick
	config    *tls.Config    // of mail servers
	roots     *x509.CertPool // that its clients trust

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
	b.pool = sync.OnceValues(func() (*service, error) { return b.serveMany("pool") })
	b.binary = sync.OnceValues(func() (*program, error) { return build(b.serving, dir) })
	b.claims = sync.OnceValues(func() (*claims, error) { return buildClaims(b.serving, dir) })
	b.yardstick = newYardstick(findPostfix(b.serving))
	if b.config, b.roots, err = loopbackTLS(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// close stops what runs and removes the folder.
func (b *bed) close() error {
	b.stop()
	return errors.Join(b.services.Wait(), os.RemoveAll(b.dir))
}

// service is a running service in this process.
type service struct {
	address  string   // host:port
	provider string   // its id
	more     []string // ids of other providers
}

func serviceOf(a *app.App, provider string) *service {
	return &service{address: strings.TrimPrefix(a.URL(), "http://"), provider: provider}
}

// serve starts a service with a data folder of this name.
func (b *bed) serve(name string, wrap func(app.Store) app.Store) (*service, error) {
	a, provider, err := open(b.serving, filepath.Join(b.dir, name), wrap)
	if err != nil {
		return nil, err
	}
	b.services.Go(func() error { return a.Run(b.serving) })
	return serviceOf(a, provider), nil
}

// serveMany starts a service in which so many callers can have a provider each.
func (b *bed) serveMany(name string) (*service, error) {
	a, provider, err := open(b.serving, filepath.Join(b.dir, name), nil)
	if err != nil {
		return nil, err
	}
	b.services.Go(func() error { return a.Run(b.serving) })
	s := serviceOf(a, provider)
	for range manyCallers {
		if provider, err = addProvider(b.serving, a); err != nil {
			return nil, err
		}
		s.more = append(s.more, provider)
	}
	return s, nil
}

// open opens a service on a new data folder and adds a provider.
func open(ctx context.Context, dir string, wrap func(app.Store) app.Store) (a *app.App, provider string, err error) {
	a, err = app.Open(ctx, app.Config{
		Listen: "127.0.0.1:0", DataDir: dir, AdminToken: secret.New(adminToken), DrainTimeout: time.Second,
		Log: quiet(), WrapStore: wrap,
	})
	if err != nil {
		return nil, "", err
	}
	provider, err = addProvider(ctx, a)
	return a, provider, err
}

// quiet is a log as a real service has it, to nowhere.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func addProvider(ctx context.Context, a *app.App) (id string, err error) {
	p, err := a.Providers.AddSMTP(ctx, emailprovider.Caller{Instance: instance.Default}, emailprovider.SMTPSettings{
		Description: "Production relay", SenderAddress: "noreply@example.com", SenderName: "Example",
		ReplyTo: "support@example.com", Host: "smtp.example.com:587", TLS: true, User: "mailer@example.com",
		Auth: emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain, Secret: secret.New(password)},
	})
	return p.ID, err
}
