package main

import (
	"fmt"
	"slices"

	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
)

// connections is how many callers the cells of reads have.
const connections = 16

// rows returns everything that is measured. To add a row, name its cells and say how good it has to
// be; a cell that another row has already costs nothing more.
func rows(b *bed) []*row {
	all := slices.Concat(b.readRows(), b.changeRows(), b.mailRows(), b.acceptRows(), b.storeRows(), b.programRows())
	if b.lacks == nil {
		all = append(all, b.postgresRows()...)
	}
	return all
}

// readRows are of reading a provider.
func (b *bed) readRows() []*row {
	get := b.calls("Get by id, Connect JSON, SQLite", connections, b.single, overHTTP(getConnect))
	byREST := b.calls("Get by id, REST, SQLite", connections, b.single, overHTTP(getREST))
	fromMemory := b.calls("Get by id, Connect JSON, no store", connections, b.memory, overHTTP(getConnect))
	return []*row{
		ratio("REST ÷ the same call in Connect JSON", byREST, get, atLeast(0.9, 1)),
		ratio("Get by id, Connect JSON, SQLite ÷ the same handler without a store", get, fromMemory, atLeast(0.65, 0.9)),
		allocations("allocations of a read, Connect JSON", get, fewerThan(100)),
	}
}

var (
	setByConnect = overHTTP(setPasswordConnect)
	setByGRPC    = overGRPC(adminv1connect.AdminServiceUpdateEmailProviderSMTPPasswordProcedure, setPasswordGRPC)
	sendByGRPC   = overGRPC(mailkeepv1connect.MessageServiceSendMessageProcedure, sendMessageGRPC)
)

// changeRows are of changing passwords.
func (b *bed) changeRows() []*row {
	than, commit := " ÷ one commit per change", b.bare("one commit per change", "calls/s", "BenchmarkBareChange")
	set := func(callers int) *cell {
		return b.changes(fmt.Sprintf("password update, Connect JSON, SQLite, callers: %d", callers), callers, b.sqlite.pool, setByConnect)
	}
	one := set(1)
	byGRPC := b.changes("password update, gRPC, SQLite, callers: 1", 1, b.sqlite.pool, setByGRPC)
	return append([]*row{
		ratio("password update on SQLite, Connect JSON, 1 caller"+than, one, commit, atLeast(0.38, 0.6)),
		ratio("password update on SQLite, Connect JSON, 16 callers"+than, set(16), commit, atLeast(2.3, 3)),
		ratio("password update on SQLite, Connect JSON, 64 callers"+than, set(manyCallers), commit, atLeast(4, 5)),
		allocations("allocations of a password update, Connect JSON", one, fewerThan(130)),
		allocations("allocations of a password update, gRPC", byGRPC, fewerThan(110)),
	}, b.growthRows(b.sqlite)...)
}

// growthRows are of changes when a backing has seen much.
func (b *bed) growthRows(on *backing) []*row {
	later := func(earlier int) *cell {
		name := fmt.Sprintf("password update, Connect JSON, %s, callers: 1, changes before: %d", on.name, earlier)
		return b.later(name, on, earlier, setByConnect)
	}
	among := func(providers, callers int, of func() (*service, error)) *cell {
		name := fmt.Sprintf("password update, Connect JSON, %s, callers: %d, providers: %d", on.name, callers, providers)
		return b.changes(name, callers, of, amongst(providers, callers, setPasswordConnect))
	}
	cost := func(callers int, t target) *row {
		return ratio(fmt.Sprintf("cost per change with 1,000,000 providers on %s ÷ with 10, callers: %d", on.name, callers),
			among(fewProviders, callers, on.few), among(b.million, callers, on.million), t)
	}
	return []*row{
		ratio("password update on "+on.name+" after 500 earlier changes ÷ on a new instance", later(500), later(0), atLeast(0.95, 1)),
		cost(1, atMost(1.3, 1.1)),
		cost(fewProviders, target{}), // a commit of several changes has as many pages to write
	}
}

// mailRows are of mails on their way to a server.
func (b *bed) mailRows() []*row {
	secured := sinkOptions{config: b.config, auth: true, pipelining: true}.open
	kept := b.carries("transport, kept TLS sessions with AUTH", secured, routeTo(true, true))
	dialled := b.dials("transport, TLS and AUTH for each mail", secured, routeTo(true, true))
	plain := b.carries("transport, kept sessions", b.yardstick.sink, routeTo(false, false))
	return append([]*row{
		ratio("transport over kept TLS sessions ÷ dialling TLS per mail, 4 sessions", kept, dialled, atLeast(12, 17)),
		ratio("transport"+b.than(), plain, b.handed, atLeast(0.6, 1.3)),
		allocations("allocations of a mail through the transport", plain, target{}),
	}, slices.Concat(b.outboxRows(b.sqlite), b.rotationRows(b.sqlite, 1))...)
}

func (b *bed) than() string { return " ÷ " + b.yardstick.name + " with kept sessions, 4 sessions" }

// outboxRows are of mails from the queue to the server.
func (b *bed) outboxRows(on *backing) []*row {
	strict := sinkOptions{auth: true}.open // and no PIPELINING
	whole := b.drains("whole outbox on "+on.name+", PIPELINING", on, b.yardstick.sink, false)
	wholeStrict := b.drains("whole outbox on "+on.name+", AUTH and no PIPELINING", on, strict, true)
	name := "whole outbox on " + on.name + ", queued to delivered and recorded, "
	return []*row{
		ratio(name+"PIPELINING"+b.than(), whole, b.handed, atLeast(0.6, 0.95)),
		ratio(name+"AUTH and no PIPELINING"+b.than(), wholeStrict, b.handed, atLeast(0.35, 0.5)),
		allocations("allocations of a mail through the whole outbox on "+on.name, whole, target{}),
	}
}

// sends is a cell of SendMessage.
func (b *bed) sends(on *backing, callers int) *cell {
	name := fmt.Sprintf("SendMessage, Connect JSON, %s, callers: %d", on.name, callers)
	return b.accepts(name, on, callers, overHTTP(sendMessageConnect))
}

// acceptRows are of taking mails.
func (b *bed) acceptRows() []*row {
	than, commit := " ÷ one commit per message", b.bare("one commit per message", "mails/s", "BenchmarkBareAccept")
	many := b.sends(b.sqlite, manyCallers)
	byGRPC := b.accepts("SendMessage, gRPC, SQLite, callers: 64", b.sqlite, manyCallers, sendByGRPC)
	return []*row{
		ratio("SendMessage accepted on SQLite, Connect JSON, 64 callers"+than, many, commit, atLeast(3, 4)),
		ratio("SendMessage accepted on SQLite, Connect JSON, 16 callers"+than, b.sends(b.sqlite, 16), commit, target{}),
		ratio("SendMessage accepted on SQLite, Connect JSON, 1 caller"+than, b.sends(b.sqlite, 1), commit, target{}),
		ratio("SendMessage accepted on SQLite, gRPC, 64 callers"+than, byGRPC, commit, target{}),
		allocations("allocations of SendMessage, Connect JSON", many, target{}),
		allocations("allocations of SendMessage, gRPC", byGRPC, target{}),
	}
}

// storeRows are of a store that has seen many mails.
func (b *bed) storeRows() []*row {
	few := b.claim("claim of 100 with 1,000 settled mails", 1000)
	million := b.claim("claim of 100 with 1,000,000 settled mails", 1_000_000)
	return []*row{
		ratio("claim of 100 with 1,000,000 settled mails in the store ÷ with 1,000", million, few, atMost(1.5, 1)),
		heapRatio("memory with 1,000,000 settled mails in the store ÷ with 1,000", million, few, atMost(1.1, 1)),
	}
}

// programRows are of the program as it is released.
func (b *bed) programRows() []*row {
	return []*row{
		absolute("start to first answer on an existing store", b.runs("start", "ms", (*program).startTime), atMost(100, 30)),
		absolute("stripped binary", b.runs("size of the binary", "MiB", (*program).size), atMost(35, 25)),
		absolute("idle RSS", b.runs("memory after a call and 2 s idle", "MiB", (*program).memory), atMost(40, 30)),
	}
}

// postgresRows are of PostgreSQL, if all of it is durable: what there is of SQLite, and of two replicas.
func (b *bed) postgresRows() []*row {
	on := b.postgres
	set := func(callers int) *cell {
		return b.changes(fmt.Sprintf("password update, Connect JSON, PostgreSQL, callers: %d", callers), callers, on.pool, setByConnect)
	}
	setGRPC := func(callers int) *cell {
		return b.changes(fmt.Sprintf("password update, gRPC, PostgreSQL, callers: %d", callers), callers, on.pool, setByGRPC)
	}
	one, some, many := set(1), set(16), set(manyCallers)
	oneGRPC, someGRPC, manyGRPC := setGRPC(1), setGRPC(16), setGRPC(manyCallers)
	both := b.changes("password update, Connect JSON, two replicas on PostgreSQL, callers: 64", manyCallers, on.pair, setByConnect)
	sent := b.sends(on, manyCallers)
	bench1, bench16, bench64 := b.pgbench(1), b.pgbench(16), b.pgbench(manyCallers)
	const than = " ÷ pgbench with as many clients"
	all := slices.Concat([]*row{
		ratio("password update on PostgreSQL, Connect JSON, 1 caller"+than, one, bench1, atLeast(0.45, 0.55)),
		ratio("password update on PostgreSQL, Connect JSON, 16 callers"+than, some, bench16, atLeast(1.1, 1.4)),
		ratio("password update on PostgreSQL, Connect JSON, 64 callers"+than, many, bench64, atLeast(2, 2.5)),
		ratio("password update on PostgreSQL, gRPC, 1 caller"+than, oneGRPC, bench1, atLeast(0.35, 0.5)),
		ratio("password update on PostgreSQL, gRPC, 16 callers"+than, someGRPC, bench16, atLeast(0.8, 1.3)),
		ratio("password update on PostgreSQL, gRPC, 64 callers"+than, manyGRPC, bench64, atLeast(1.2, 2)),
		allocations("allocations of a password update on PostgreSQL, Connect JSON", one, target{}),
		allocations("allocations of a password update on PostgreSQL, gRPC", oneGRPC, target{}),
		ratio("two replicas on one PostgreSQL ÷ one, password update, Connect JSON, 64 callers", both, many, atLeast(0.95, 1)),
		ratio("SendMessage accepted on PostgreSQL, Connect JSON, 64 callers"+than, sent, bench64, target{}),
	}, b.growthRows(on), b.outboxRows(on), b.rotationRows(on, 2))
	for _, c := range cellsOf(all) {
		if c != b.handed {
			b.ifDurable(c)
		}
	}
	return all
}

// rotationRows are of a rotation on its way from one replica to another, if there is more than one.
func (b *bed) rotationRows(on *backing, replicas int) []*row {
	c := b.rotates(fmt.Sprintf("rotation to AUTH, %s, replicas: %d", on.name, replicas), on, replicas)
	return []*row{absolute(fmt.Sprintf("acknowledgement of a rotation to the first AUTH with it by the last replica of %d on %s", replicas, on.name), c, target{})}
}
