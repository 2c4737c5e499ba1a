package main

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
)

// dialer opens connections that make a certain call.
type dialer func(ctx context.Context, deadline time.Time) (caller, error)

// protocol is a call in a protocol.
type protocol func(endpoint) (dialer, error)

// calls is a cell of one call by so many callers, in calls a second.
func (b *bed) calls(name string, callers int, of func() (*service, error), call protocol) *cell {
	return &cell{name: name, unit: "calls/s", open: func() (measure, error) {
		_, l, err := b.loads(callers, of, call)
		return l.measure, err
	}}
}

// changes is a cell of calls each of which changes something, in calls a second.
func (b *bed) changes(name string, callers int, of func() (*service, error), call protocol) *cell {
	return &cell{name: name, unit: "calls/s", open: func() (measure, error) {
		s, l, err := b.loads(callers, of, call)
		return func(ctx context.Context) (sample, error) { return s.reconciled(ctx, l.run) }, err
	}}
}

func (b *bed) loads(callers int, of func() (*service, error), call protocol) (*service, load, error) {
	s, err := of()
	if err != nil {
		return nil, load{}, err
	}
	dial, err := s.dialer(call)
	return s, load{callers: callers, length: b.length, dial: dial}, err
}

// dialer shares out the service's endpoints among callers.
func (s *service) dialer(call protocol) (dialer, error) {
	dials := make([]dialer, len(s.all))
	for i, to := range s.all {
		var err error
		if dials[i], err = call(to); err != nil {
			return nil, err
		}
	}
	var n atomic.Int64
	return func(ctx context.Context, deadline time.Time) (caller, error) {
		return dials[int(n.Add(1))%len(dials)](ctx, deadline)
	}, nil
}

// overHTTP makes a call over HTTP/1.1.
func overHTTP(request newRequest) protocol {
	return func(to endpoint) (dialer, error) {
		r, err := request("http://"+to.address, to.provider)
		if err != nil {
			return nil, err
		}
		wire, err := requestBytes(r)
		return func(ctx context.Context, deadline time.Time) (caller, error) {
			return dial(ctx, to.address, deadline, wire)
		}, err
	}
}

// overGRPC makes a call over gRPC.
func overGRPC(procedure string, request func(provider string) proto.Message) protocol {
	return func(to endpoint) (dialer, error) {
		message, err := proto.Marshal(request(to.provider))
		return func(ctx context.Context, deadline time.Time) (caller, error) {
			return dialGRPC(ctx, to.address, deadline, procedure, message)
		}, err
	}
}

// runs is a cell of the released program.
func (b *bed) runs(name, unit string, of func(*program, context.Context) (sample, error)) *cell {
	return &cell{name: name, unit: unit, open: func() (measure, error) {
		p, err := b.binary()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) (sample, error) { return of(p, ctx) }, nil
	}}
}
