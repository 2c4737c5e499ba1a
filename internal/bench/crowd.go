package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// crowd starts a service with so many providers, whose ids follow each other.
func (b *bed) crowd(on *backing, providers int) (*service, error) {
	c, in, err := b.empty(on, fmt.Sprintf("crowd-%d", providers))
	if err != nil {
		return nil, err
	}
	first, err := prepare(b.serving, c)
	if err != nil {
		return nil, err
	}
	if err := on.fill(b.serving, c.DataDir, in, providers-1); err != nil {
		return nil, err
	}
	s, err := b.start(c, 0)
	if err != nil {
		return nil, err
	}
	s.all = []endpoint{{s.address, first}}
	return s, nil
}

// amongst makes a call over HTTP/1.1 for a random one of so many providers each time. No two callers
// ever choose the same one.
func amongst(providers, callers int, request newRequest) protocol {
	return func(first endpoint) (dialer, error) {
		number, err := strconv.ParseUint(first.provider, 10, 64)
		if err != nil {
			return nil, err
		}
		r, err := request("http://"+first.address, first.provider)
		if err != nil {
			return nil, err
		}
		wire, err := requestBytes(r)
		at := bytes.LastIndex(wire, []byte(first.provider))
		if err != nil || at < 0 {
			return nil, errors.Join(err, errors.New("the request does not name the provider"))
		}
		var n atomic.Uint64
		return func(ctx context.Context, deadline time.Time) (caller, error) {
			mine := slices.Clone(wire)
			c, err := dial(ctx, first.address, deadline, mine)
			return &roaming{
				connection: c, id: mine[at : at+len(first.provider)], first: number + n.Add(1)%uint64(callers),
				step: uint64(callers), steps: uint64(providers / callers),
			}, err
		}, nil
	}
}

// roaming makes each call for another provider.
type roaming struct {
	*connection
	id                 []byte // within the request, as decimal digits
	first, step, steps uint64
}

// call implements caller.
func (r *roaming) call() error {
	n := r.first + r.step*rand.Uint64N(r.steps)
	for i := len(r.id) - 1; i >= 0; i-- {
		r.id[i] = byte('0' + n%10)
		n /= 10
	}
	return r.connection.call()
}
