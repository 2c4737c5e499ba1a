package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/mailkeep/mailkeep/internal/app"
)

// stage is a service on a new database for one measurement, so that none pays for what the one before
// has left.
type stage struct {
	on       *backing
	replicas int    // of the service; 0 for 1
	address  string // of the mail server
	auth     bool   // that it demands
	wrap     func(app.Store) app.Store
	before   func(*service) error                  // while it does not run; nil for nothing
	while    func(context.Context, *service) error // while it runs
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
	first, err := openReplicas(ctx, c, max(1, s.replicas))
	if err != nil {
		return err
	}
	err = first.activate(ctx, s.address, s.auth)
	if err == nil && s.before != nil {
		err = s.before(first)
	}
	if err != nil {
		return errors.Join(err, first.closeReplicas())
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var ended errgroup.Group
	for _, replica := range first.replicas {
		ended.Go(func() error { return replica.Run(running) })
	}
	err = s.while(ctx, first)
	stop()
	return errors.Join(err, ended.Wait())
}

// openReplicas opens a service so many times, each with a folder of its own, and returns the first.
func openReplicas(ctx context.Context, c app.Config, n int) (first *service, err error) {
	dir := c.DataDir
	for i := range n {
		c.EHLOName = fmt.Sprintf("replica%d.example.com", i+1)
		c.DataDir = filepath.Join(dir, c.EHLOName)
		a, err := app.Open(ctx, c)
		if err != nil {
			if first != nil {
				err = errors.Join(err, first.closeReplicas())
			}
			return nil, err
		}
		replica := serviceOf(a)
		replica.hello = c.EHLOName
		if first == nil {
			first = replica
		} else {
			first.replicas = append(first.replicas, replica)
		}
	}
	return first, nil
}
