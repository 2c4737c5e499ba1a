package main

import (
	"context"
	"errors"
	"os"

	"github.com/mailkeep/mailkeep/internal/app"
)

// stage is a service on a new database for one measurement, so that none pays for what the one before
// has left.
type stage struct {
	on      *backing
	address string // of the mail server
	auth    bool   // that it demands
	wrap    func(app.Store) app.Store
	before  func(*service) error                  // while it does not run; nil for nothing
	while   func(context.Context, *service) error // while it runs
}

// play opens the service, runs it, ends it and removes what it kept.
func (b *bed) play(ctx context.Context, s stage) (err error) {
	dir, err := os.MkdirTemp(b.dir, "stage-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	in, err := s.on.create(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	c := b.settings(dir, in)
	c.WrapStore = s.wrap
	a, err := app.Open(ctx, c)
	if err != nil {
		return err
	}
	service := serviceOf(a)
	err = service.activate(ctx, s.address, s.auth)
	if err == nil && s.before != nil {
		err = s.before(service)
	}
	if err != nil {
		return errors.Join(err, a.Close())
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running) }()
	err = s.while(ctx, service)
	stop()
	return errors.Join(err, <-ended)
}
