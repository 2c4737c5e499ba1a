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
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// adminToken is the token of every service on the bed.
const adminToken = "the-benchmark-knocks-with-this-token"

// bed is what the cells run on: a temporary folder, and services that start when first needed.
type bed struct {
	dir     string
	length  time.Duration // of a measurement
	million int           // less in tests

	sqlite     *backing
	single     func() (*service, error)    // a service on SQLite with one provider
	memory     func() (*service, error)    // the same without a store behind its reads
	binary     func() (*program, error)    // the program as it is released
	benchmarks func() (*benchmarks, error) // the store's own

	yardstick yardstick
	handed    *cell          // of the yardstick
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
	b := &bed{dir: dir, length: length, million: 1_000_000}
	b.serving, b.stop = context.WithCancel(context.Background())
	b.sqlite = b.onSQLite()
	b.single = sync.OnceValues(func() (*service, error) { return b.serveOne("single", nil) })
	b.memory = sync.OnceValues(func() (*service, error) { return b.serveOne("memory", remember) })
	b.binary = sync.OnceValues(func() (*program, error) { return b.build(b.serving) })
	b.benchmarks = sync.OnceValues(func() (*benchmarks, error) { return buildBenchmarks(b.serving, dir) })
	b.yardstick = newYardstick(findPostfix(b.serving))
	b.handed = b.hands(b.yardstick)
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

// settings are those of every service: it keeps what it is given in the database, or if that is none, in
// the folder.
func (b *bed) settings(dir string, in database) app.Config {
	return app.Config{
		Listen: "127.0.0.1:0", DataDir: dir, KeysetFile: filepath.Join(dir, "keyset.json"), AdminToken: secret.New(adminToken),
		DrainTimeout: 10 * time.Millisecond, Sessions: sessions, Log: quiet(),
	}
}

// empty are the settings of a service with a folder of this name and a new database.
func (b *bed) empty(on *backing, name string) (app.Config, database, error) {
	in, err := on.create(b.serving)
	return b.settings(filepath.Join(b.dir, name+"-"+on.name), in), in, err
}

// serveOne starts a service on SQLite with one provider.
func (b *bed) serveOne(name string, wrap func(app.Store) app.Store) (*service, error) {
	c := b.settings(filepath.Join(b.dir, name), database{})
	c.WrapStore = wrap
	return b.start(c, 1)
}

// start starts a service, which runs until the bed is closed, and adds so many providers.
func (b *bed) start(c app.Config, providers int) (*service, error) {
	a, err := app.Open(b.serving, c)
	if err != nil {
		return nil, err
	}
	b.services.Go(func() error { return a.Run(b.serving) })
	s := serviceOf(a)
	return s, s.add(b.serving, providers)
}

// prepare leaves one provider for services with these settings, and returns its id.
func prepare(ctx context.Context, c app.Config) (provider string, err error) {
	a, err := app.Open(ctx, c)
	if err != nil {
		return "", err
	}
	s := serviceOf(a)
	err = errors.Join(s.add(ctx, 1), a.Close())
	return s.all[0].provider, err
}

// quiet is a log as a real service has it, to nowhere.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo}))
}
