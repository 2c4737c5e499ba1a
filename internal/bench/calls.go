package main

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
)

// dialer opens connections that make a certain call.
type dialer func(ctx context.Context, deadline time.Time) (caller, error)

// calls is a cell of one call by so many callers, in calls a second.
func (b *bed) calls(name string, callers int, of func() (*service, error), call func(*service) (dialer, error)) *cell {
	return &cell{name: name, unit: "calls/s", open: func() (measure, error) {
		s, err := of()
		if err != nil {
			return nil, err
		}
		dial, err := call(s)
		return load{callers: callers, length: b.length, dial: dial}.measure, err
	}}
}

// overHTTP makes a call over HTTP/1.1.
func overHTTP(request newRequest) func(*service) (dialer, error) {
	return func(s *service) (dialer, error) {
		r, err := request("http://"+s.address, s.provider)
		if err != nil {
			return nil, err
		}
		wire, err := requestBytes(r)
		return func(ctx context.Context, deadline time.Time) (caller, error) {
			return dial(ctx, s.address, deadline, wire)
		}, err
	}
}

// overHTTPEach makes a call over HTTP/1.1, of whose callers each has a provider of its own.
func overHTTPEach(request newRequest) func(*service) (dialer, error) {
	return func(s *service) (dialer, error) {
		dials := make([]dialer, len(s.more))
		for i, provider := range s.more {
			var err error
			if dials[i], err = overHTTP(request)(&service{address: s.address, provider: provider}); err != nil {
				return nil, err
			}
		}
		var n atomic.Int64
		return func(ctx context.Context, deadline time.Time) (caller, error) {
			return dials[int(n.Add(1))%len(dials)](ctx, deadline)
		}, nil
	}
}

// overGRPC makes a call over gRPC.
func overGRPC(procedure string, request func(provider string) proto.Message) func(*service) (dialer, error) {
	return func(s *service) (dialer, error) {
		message, err := proto.Marshal(request(s.provider))
		return func(ctx context.Context, deadline time.Time) (caller, error) {
			return dialGRPC(ctx, s.address, deadline, procedure, message)
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
