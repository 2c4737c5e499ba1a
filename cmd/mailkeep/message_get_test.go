package main

import (
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

func TestGetMessage(t *testing.T) {
	get := &mailkeepv1.GetMessageRequest{Id: "m1"}
	full := &mailkeepv1.Message{
		Id: "m1", State: failed, Reason: "550 5.1.1 no such user", Tag: "t", IdempotencyKey: "k", CreationDate: at(0), ChangeDate: at(1),
		ExpirationDate: at(2), NextAttemptDate: at(3), ProviderId: "p", CredentialVersion: 3, AttemptCount: 2,
		Recipients: []*mailkeepv1.Recipient{
			{Address: "a@example.com", Kind: mailkeepv1.RecipientKind_RECIPIENT_KIND_TO, State: mailkeepv1.RecipientState_RECIPIENT_STATE_ACCEPTED, Code: 250, Text: "2.1.5 ok"},
			{Address: "b@example.com", Kind: mailkeepv1.RecipientKind_RECIPIENT_KIND_BCC, State: mailkeepv1.RecipientState_RECIPIENT_STATE_PENDING},
		},
		Attempts: []*mailkeepv1.Attempt{
			{Number: 1, ProviderId: "p", CredentialVersion: 2, StartDate: at(0), Step: "auth", Code: 535, Text: "5.7.8 \x1b[31mno", Steps: []*mailkeepv1.StepTime{
				{Step: "dial", Duration: durationpb.New(1499 * time.Microsecond)}, {Step: "auth", Duration: durationpb.New(2 * time.Second)}}},
			{Number: 2, ProviderId: "p", CredentialVersion: 3, StartDate: at(1), Accepted: true, Code: 250, Text: "ok"},
		},
	}
	content := &mailkeepv1.GetMessageContentResponse{Content: &mailkeepv1.MessageContent{
		MessageId: "x@y", ReplyTo: "r@example.com", Subject: "S", Text: "one\r\n\x1btwo\n", Html: "<p>",
		Headers:     []*mailkeepv1.Header{{Name: "List-Id", Value: "news"}},
		Attachments: []*mailkeepv1.Attachment{{Name: "a.bin", Data: []byte("abc")}, {Name: "b.pdf", ContentType: "application/pdf"}},
	}}
	small := &mailkeepv1.GetMessageResponse{Message: inState("m1", queued, "")}
	const smallOut = "id: m1\nstate: queued\nchanged: " + noon + "\n\nRECIPIENT  AS  STATE  CODE  TEXT\n"
	for _, x := range []exchange{
		{name: "all of it", args: "message get m1", answers: []any{&mailkeepv1.GetMessageResponse{Message: full}}, requests: []proto.Message{get},
			out: `id: m1
state: failed
reason: 550 5.1.1 no such user
tag: t
idempotency-key: k
taken: 2027-03-01T14:30:00+02:30
changed: 2027-03-01T14:31:00+02:30
next-attempt: 2027-03-01T14:33:00+02:30
given-up: 2027-03-01T14:32:00+02:30
attempts: 2
provider: p
credential-version: 3

RECIPIENT      AS   STATE     CODE  TEXT
a@example.com  to   accepted  250   2.1.5 ok
b@example.com  bcc  pending   -     -

ATTEMPT  BEGAN                      PROVIDER  CREDENTIAL  RESULT    FAILED AT  CODE  TEXT              TIMES
1        2027-03-01T14:30:00+02:30  p         2           failed    auth       535   5.7.8 \x1b[31mno  dial 1 ms, auth 2000 ms
2        2027-03-01T14:31:00+02:30  p         3           accepted  -          250   ok                -
`},
		{name: "content", args: "message get m1 --content", answers: []any{small, content},
			requests: []proto.Message{get, &mailkeepv1.GetMessageContentRequest{Id: "m1"}},
			out: smallOut + `
message-id: x@y
reply-to: r@example.com
subject: S
header: List-Id: news
attachment: a.bin (application/octet-stream, 3 bytes)
attachment: b.pdf (application/pdf, 0 bytes)
text:
    one
    \x1btwo
html:
    <p>
`},
		{name: "erased", args: "message get m1 --content", status: 1, out: smallOut, err: "mailkeep: erased (MAILKEEP-ERASED)\n",
			answers:  []any{small, connect.NewError(connect.CodeNotFound, "erased (MAILKEEP-ERASED)")},
			requests: []proto.Message{get, &mailkeepv1.GetMessageContentRequest{Id: "m1"}}},
		{name: "JSON", args: "message get m1 --content --json", requests: []proto.Message{get, &mailkeepv1.GetMessageContentRequest{Id: "m1"}},
			answers: []any{&mailkeepv1.GetMessageResponse{Message: &mailkeepv1.Message{Id: "m1"}},
				&mailkeepv1.GetMessageContentResponse{Content: &mailkeepv1.MessageContent{Subject: "S"}}},
			out: "{\n  \"message\": {\n    \"id\": \"m1\"\n  }\n}\n{\n  \"content\": {\n    \"subject\": \"S\"\n  }\n}\n"},
		{name: "retry", args: "message retry m1", answers: []any{&mailkeepv1.RetryMessageResponse{Message: inState("m1", queued, "")}},
			requests: []proto.Message{&mailkeepv1.RetryMessageRequest{Id: "m1"}}, out: "id: m1\nstate: queued\nchanged: " + noon + "\n"},
		{name: "cancel", args: "message cancel m1", answers: []any{&mailkeepv1.CancelMessageResponse{Message: inState("m1", cancelled, "")}},
			requests: []proto.Message{&mailkeepv1.CancelMessageRequest{Id: "m1"}}, out: "id: m1\nstate: cancelled\nchanged: " + noon + "\n"},
		{name: "cancel too late", args: "message cancel m1", status: 1, err: "mailkeep: it is being sent (MAILKEEP-STATE)\n",
			answers:  []any{connect.NewError(connect.CodeFailedPrecondition, "it is being sent (MAILKEEP-STATE)")},
			requests: []proto.Message{&mailkeepv1.CancelMessageRequest{Id: "m1"}}},
	} {
		t.Run(x.name, x.check)
	}
}
