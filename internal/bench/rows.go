package main

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
)

// connections is how many callers the cells of reads have.
const connections = 16

// rows returns everything that is measured. To add a row, name its cells and say how good it has to
// be; a cell that another row has already costs nothing more.
func rows(b *bed) []*row {
	get := b.calls("Get by id, Connect JSON, SQLite", connections, b.sqlite, overHTTP(getConnect))
	getByREST := b.calls("Get by id, REST, SQLite", connections, b.sqlite, overHTTP(getREST))
	getFromMemory := b.calls("Get by id, Connect JSON, no store", connections, b.memory, overHTTP(getConnect))
	setPassword := b.calls("password update, Connect JSON, SQLite", 1, b.sqlite, overHTTP(setPasswordConnect))
	setPasswordByGRPC := b.calls("password update, gRPC, SQLite", 1, b.sqlite,
		overGRPC(adminv1connect.AdminServiceUpdateEmailProviderSMTPPasswordProcedure, setPasswordGRPC))
	return []*row{
		ratio("REST ÷ the same call in Connect JSON", getByREST, get, atLeast(0.9, 1)),
		ratio("Get by id, Connect JSON, SQLite ÷ the same handler without a store", get, getFromMemory, atLeast(0.65, 0.9)),
		allocations("allocations of a read, Connect JSON", get, target{}),
		allocations("allocations of a password update, Connect JSON", setPassword, target{}),
		allocations("allocations of a password update, gRPC", setPasswordByGRPC, target{}),
		absolute("start to first answer on an existing store", b.runs("start", "ms", (*program).startTime), atMost(100, 30)),
		absolute("stripped binary", b.runs("size of the binary", "MiB", (*program).size), atMost(35, 25)),
		absolute("idle RSS", b.runs("memory after a call and 2 s idle", "MiB", (*program).memory), atMost(40, 30)),
	}
}

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
