package main

import (
	"context"
	"path/filepath"
	"sync"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// fewProviders is how many a service with few has.
const fewProviders = 10

// backing is where services keep what they are given.
type backing struct {
	name string // as rows call it
	// create makes an empty database.
	create func(context.Context) (database, error)
	// fill copies the one provider of a database so many times; the copies have the ids after its own.
	fill func(ctx context.Context, dir string, in database, copies int) error

	pool    func() (*service, error) // a service with a provider for each of many callers
	pair    func() (*service, error) // the same, with every other caller at another replica
	few     func() (*service, error) // a service with fewProviders
	million func() (*service, error)
}

// database is one service's; the zero database is a file in its folder.
type database struct {
	name string
	url  secret.Text
	drop func() error // nil if there is nothing to drop
}

func (d database) close() error {
	if d.drop == nil {
		return nil
	}
	return d.drop()
}

// servedOn adds the services on a backing, which start when first needed.
func (b *bed) servedOn(on *backing) *backing {
	var shared app.Config
	on.pool = sync.OnceValues(func() (_ *service, err error) {
		if shared, _, err = b.empty(on, "pool"); err != nil {
			return nil, err
		}
		return b.start(shared, manyCallers)
	})
	on.pair = sync.OnceValues(func() (*service, error) {
		one, err := on.pool()
		if err != nil {
			return nil, err
		}
		shared.DataDir = filepath.Join(b.dir, "pair-"+on.name)
		other, err := b.start(shared, 0)
		if err != nil {
			return nil, err
		}
		return one.with(other), nil
	})
	on.few = sync.OnceValues(func() (*service, error) { return b.crowd(on, fewProviders) })
	on.million = sync.OnceValues(func() (*service, error) { return b.crowd(on, b.million) })
	return on
}

// onSQLite has a file in the data folder.
func (b *bed) onSQLite() *backing {
	return b.servedOn(&backing{
		name:   "SQLite",
		create: func(context.Context) (database, error) { return database{}, nil },
		fill: func(ctx context.Context, dir string, _ database, copies int) error {
			t, err := b.benchmarks()
			if err != nil {
				return err
			}
			return t.fill(ctx, filepath.Join(dir, "mailkeep.db"), copies)
		},
	})
}
