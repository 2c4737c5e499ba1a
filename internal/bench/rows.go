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
	return slices.Concat(b.readRows(), b.changeRows(), b.mailRows(), b.acceptRows(), b.storeRows(), b.programRows())
}

func (b *bed) readRows() []*row {
	get := b.calls("Get by id, Connect JSON, SQLite", connections, b.sqlite, overHTTP(getConnect))
	byREST := b.calls("Get by id, REST, SQLite", connections, b.sqlite, overHTTP(getREST))
	fromMemory := b.calls("Get by id, Connect JSON, no store", connections, b.memory, overHTTP(getConnect))
	return []*row{
		ratio("REST ÷ the same call in Connect JSON", byREST, get, atLeast(0.9, 1)),
		ratio("Get by id, Connect JSON, SQLite ÷ the same handler without a store", get, fromMemory, atLeast(0.65, 0.9)),
		allocations("allocations of a read, Connect JSON", get, target{}),
	}
}

func (b *bed) changeRows() []*row {
	one := b.calls("password update, Connect JSON, SQLite", 1, b.sqlite, overHTTP(setPasswordConnect))
	some := b.calls("password update, Connect JSON, SQLite, 16 callers", 16, b.pool, overHTTPEach(setPasswordConnect))
	many := b.calls("password update, Connect JSON, SQLite, 64 callers", manyCallers, b.pool, overHTTPEach(setPasswordConnect))
	byGRPC := b.calls("password update, gRPC, SQLite", 1, b.sqlite,
		overGRPC(adminv1connect.AdminServiceUpdateEmailProviderSMTPPasswordProcedure, setPasswordGRPC))
	commit := b.oneChange("one commit per change")
	return []*row{
		ratio("password update on SQLite, Connect JSON, 1 caller ÷ one commit per change", one, commit, target{}),
		ratio("password update on SQLite, Connect JSON, 16 callers ÷ one commit per change", some, commit, target{}),
		ratio("password update on SQLite, Connect JSON, 64 callers ÷ one commit per change", many, commit, target{}),
		allocations("allocations of a password update, Connect JSON", one, target{}),
		allocations("allocations of a password update, gRPC", byGRPC, target{}),
	}
}

// mailRows are of mails on their way to a server.
func (b *bed) mailRows() []*row {
	secured := sinkOptions{config: b.config, auth: true, pipelining: true}.open
	strict := sinkOptions{auth: true}.open // and no PIPELINING
	kept := b.carries("transport, kept TLS sessions with AUTH", secured, routeTo(true, true))
	dialled := b.dials("transport, TLS and AUTH for each mail", secured, routeTo(true, true))
	plain := b.carries("transport, kept sessions", b.yardstick.sink, routeTo(false, false))
	whole := b.drains("whole outbox, PIPELINING", b.yardstick.sink, false)
	wholeStrict := b.drains("whole outbox, AUTH and no PIPELINING", strict, true)
	than, yardstick := " ÷ "+b.yardstick.name+" with kept sessions, 4 sessions", b.hands(b.yardstick)
	return []*row{
		ratio("transport over kept TLS sessions ÷ dialling TLS per mail, 4 sessions", kept, dialled, atLeast(12, 17)),
		ratio("transport"+than, plain, yardstick, atLeast(0.6, 1.3)),
		ratio("whole outbox, queued to delivered and recorded, PIPELINING"+than, whole, yardstick, atLeast(0.6, 0.95)),
		ratio("whole outbox, queued to delivered and recorded, AUTH and no PIPELINING"+than, wholeStrict, yardstick, atLeast(0.35, 0.5)),
		allocations("allocations of a mail through the transport", plain, target{}),
		allocations("allocations of a mail through the whole outbox", whole, target{}),
	}
}

// acceptRows are of taking mails.
func (b *bed) acceptRows() []*row {
	byGRPC := b.accepts(fmt.Sprintf("SendMessage, gRPC, %d callers", manyCallers), manyCallers,
		overGRPC(mailkeepv1connect.MessageServiceSendMessageProcedure, sendMessageGRPC))
	commit := b.oneCommit("one commit per message")
	send := func(callers int) *cell {
		return b.accepts(fmt.Sprintf("SendMessage, Connect JSON, callers: %d", callers), callers, overHTTP(sendMessageConnect))
	}
	many := send(manyCallers)
	return []*row{
		ratio("SendMessage accepted on SQLite, Connect JSON, 64 callers ÷ one commit per message", many, commit, atLeast(3, 4)),
		ratio("SendMessage accepted on SQLite, Connect JSON, 16 callers ÷ one commit per message", send(16), commit, target{}),
		ratio("SendMessage accepted on SQLite, Connect JSON, 1 caller ÷ one commit per message", send(1), commit, target{}),
		ratio("SendMessage accepted on SQLite, gRPC, 64 callers ÷ one commit per message", byGRPC, commit, target{}),
		allocations("allocations of SendMessage, Connect JSON", many, target{}),
		allocations("allocations of SendMessage, gRPC", byGRPC, target{}),
	}
}

// storeRows are of a store that has seen much.
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
