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

	sqlite, postgres *backing

	single     func() (*service, error)    // a service on SQLite with one provider
	memory     func() (*service, error)    // the same without a store behind its reads
	binary     func() (*program, error)    // the program as it is released
	benchmarks func() (*benchmarks, error) // the store's own

	lacks      error                    // nil if PostgreSQL can be measured
	cluster    func() (*cluster, error) // of PostgreSQL
	running    *cluster                 // the same, nil until it is started
	forPgbench func() (database, error) // with the tables for it

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
	b.sqlite, b.postgres, b.lacks = b.onSQLite(), b.onPostgres(), findPostgres()
	b.single = sync.OnceValues(func() (*service, error) { return b.serveOne("single", nil) })
	b.memory = sync.OnceValues(func() (*service, error) { return b.serveOne("memory", remember) })
	b.binary = sync.OnceValues(func() (*program, error) { return b.build(b.serving) })
	b.benchmarks = sync.OnceValues(func() (*benchmarks, error) { return buildBenchmarks(b.serving, dir) })
	b.cluster = sync.OnceValues(func() (_ *cluster, err error) {
		b.running, err = startCluster(b.serving)
		return b.running, err
	})
	b.forPgbench = sync.OnceValues(func() (database, error) {
		p, err := b.cluster()
		if err != nil {
			return database{}, err
		}
		return p.createBare(b.serving)
	})
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
	err := b.services.Wait()
	if b.running != nil {
		err = errors.Join(err, b.running.Close())
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// othersCPU watches programs that are neither this one nor the cluster.
func (b *bed) othersCPU() (func() (float64, error), error) {
	return othersCPU(func() int {
		if b.running == nil {
			return 0
		}
		return b.running.PID()
	})
}

// settings are those of every service, as serve has them by default: it keeps what it is given in the database, or if that is none, in
// the folder.
func (b *bed) settings(dir string, in database) app.Config {
	return app.Config{
		Listen: "127.0.0.1:0", DataDir: dir, DatabaseURL: in.url, KeysetFile: filepath.Join(dir, "keyset.json"), AdminToken: secret.New(adminToken),
		DrainTimeout: 10 * time.Millisecond, Sessions: sessions, KeepPrevious: 24 * time.Hour, Log: quiet(),
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
