package main

import (
	"testing"

	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

func TestAuditVerify(t *testing.T) {
	first := &mailkeepv1.VerifyEventsRequest{}
	for _, x := range []exchange{
		{name: "in two pages", args: "audit verify",
			answers: []any{
				&mailkeepv1.VerifyEventsResponse{Verified: 990, BeforeChain: 10, LastSequence: 1002, More: true, NextAfterSequence: 1000, Chained: true},
				&mailkeepv1.VerifyEventsResponse{Verified: 2, LastSequence: 1002, NextAfterSequence: 1002, Chained: true, Head: "ab12"},
			},
			requests: []proto.Message{first, &mailkeepv1.VerifyEventsRequest{AfterSequence: 1000, Chained: true}},
			out:      "verified: 992\nbefore-the-chain: 10\nlast-sequence: 1002\nhead: ab12\n"},
		{name: "findings", args: "audit verify",
			answers: []any{
				&mailkeepv1.VerifyEventsResponse{Verified: 1, LastSequence: 4, More: true, NextAfterSequence: 2,
					Findings: []*mailkeepv1.AuditFinding{{FirstSequence: 1, LastSequence: 1, Text: "event 1: changed\x1b"}}},
				&mailkeepv1.VerifyEventsResponse{Verified: 2, LastSequence: 4, NextAfterSequence: 4},
			},
			requests: []proto.Message{first, &mailkeepv1.VerifyEventsRequest{AfterSequence: 2}},
			out:      "event 1: changed\\x1b\nverified: 3\nlast-sequence: 4\n", err: "mailkeep: the events are not what was recorded\n", status: 1},
		{name: "a part", args: "audit verify --after 7", answers: []any{&mailkeepv1.VerifyEventsResponse{}},
			requests: []proto.Message{&mailkeepv1.VerifyEventsRequest{AfterSequence: 7, Chained: true}}, out: "verified: 0\nlast-sequence: 0\n"},
		{name: "a service that goes round", args: "audit verify", answers: []any{&mailkeepv1.VerifyEventsResponse{More: true}},
			requests: []proto.Message{first}, err: "mailkeep: the service does not come further than event 0\n", status: 1},
	} {
		t.Run(x.name, x.check)
	}
}

func TestAuditExport(t *testing.T) {
	event := func(n uint64, minute int) *mailkeepv1.AuditEvent {
		return &mailkeepv1.AuditEvent{ProviderId: "p", Event: &mailkeepv1.ProviderEvent{Sequence: n, Type: "provider.updated", Date: at(minute)}}
	}
	const line1 = `{"providerId":"p","event":{"sequence":"1","type":"provider.updated","date":"2027-03-01T12:00:00Z"}}` + "\n"
	const line2 = `{"providerId":"p","event":{"sequence":"2","type":"provider.updated","date":"2027-03-01T12:01:00Z"}}` + "\n"
	answers := []any{
		&mailkeepv1.ListEventsResponse{Events: []*mailkeepv1.AuditEvent{event(1, 0)}, NextAfterSequence: 1},
		&mailkeepv1.ListEventsResponse{Events: []*mailkeepv1.AuditEvent{event(2, 1)}},
	}
	requests := []proto.Message{
		&mailkeepv1.ListEventsRequest{PageSize: maxPage}, &mailkeepv1.ListEventsRequest{PageSize: maxPage, AfterSequence: 1},
	}
	from := at(1).AsTime().Format("2006-01-02T15:04:05Z")
	for _, x := range []exchange{
		{name: "all", args: "audit export", answers: answers, requests: requests, out: line1 + line2},
		{name: "from", args: "audit export --from " + from, answers: answers, requests: requests, out: line2},
		{name: "to", args: "audit export --to " + from, answers: answers, requests: requests, out: line1},
	} {
		t.Run(x.name, x.check)
	}
}
