package main

import (
	"context"
	"path/filepath"
	"sync"
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
	few     func() (*service, error) // a service with fewProviders
	million func() (*service, error)
}

// database is one service's; the zero database is a file in its folder.
type database struct {
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
	on.pool = sync.OnceValues(func() (*service, error) {
		c, _, err := b.empty(on, "pool")
		if err != nil {
			return nil, err
		}
		return b.start(c, manyCallers)
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
