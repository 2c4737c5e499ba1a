package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

func TestWatch(t *testing.T) {
	again := change1(queued, "451 later")
	again.Message.Tag, again.Message.AttemptCount, again.Message.ProviderId, again.Message.CredentialVersion = "t", 1, "p", 2
	again.Message.NextAttemptDate = at(1)
	tagged := &mailkeepv1.WatchMessagesRequest{Tag: "t"}
	one := &mailkeepv1.WatchMessagesRequest{Id: "m1"}
	for _, x := range []exchange{
		{name: "one, until it is settled, whatever became of it", args: "message watch m1", requests: []proto.Message{one},
			answers: []any{change1(sending, ""), again, change1(failed, "no")},
			out: noon + "  m1  sending\n" + noon + "  m1  queued     tag t, attempts 1, provider p, credential-version 2, " +
				"next-attempt 2027-03-01T14:31:00+02:30, reason 451 later\n" + noon + "  m1  failed     reason no\n"},
		{name: "JSON, a line each", args: "message watch m1 --json", answers: []any{change1(queued, ""), change1(cancelled, "")},
			requests: []proto.Message{one},
			out: `{"message":{"id":"m1","state":"MESSAGE_STATE_QUEUED","changeDate":"` + noonJSON + `"}}` + "\n" +
				`{"message":{"id":"m1","state":"MESSAGE_STATE_CANCELLED","changeDate":"` + noonJSON + `"}}` + "\n"},
		{name: "one that is unknown", args: "message watch m1", status: 1, err: "mailkeep: not found (MAILKEEP-MESSAGE)\n",
			answers: []any{connect.NewError(connect.CodeNotFound, "not found (MAILKEEP-MESSAGE)")}, requests: []proto.Message{one}},
		{name: "one, cut", args: "message watch m1", answers: []any{change1(sending, "")}, requests: []proto.Message{one}, status: 1,
			out: noon + "  m1  sending\n",
			err: "mailkeep: the service has ended the stream before the mail was settled; `mailkeep message get` shows what became of it\n"},
		{name: "one that says nothing", args: "message watch m1", requests: []proto.Message{one}, status: 1,
			err: "mailkeep: the service has ended the stream before the mail was settled; `mailkeep message get` shows what became of it\n"},
		{name: "all, too slow", args: "message watch --tag t", status: 1, requests: []proto.Message{tagged}, out: noon + "  m1  delivered\n",
			answers: []any{change1(delivered, ""), connect.NewError(connect.CodeAborted, "the reader is too slow (MAILKEEP-SLOW)")},
			err:     "mailkeep: the reader is too slow (MAILKEEP-SLOW)\n"},
		{name: "all, ended by the service", args: "message watch --tag t", status: 1, requests: []proto.Message{tagged},
			err: "mailkeep: the service has ended the stream; watch again for what happens from now on\n"},
	} {
		t.Run(x.name, x.check)
	}
}

// lines is a writer that tells each time that something was written.
type lines struct {
	bytes.Buffer
	written chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.written <- string(p)
	return l.Buffer.Write(p)
}

// comes waits until a command has printed a line with this in it.
func (l *lines) comes(what string) func(context.Context) error {
	return func(context.Context) error {
		select {
		case line := <-l.written:
			if strings.Contains(line, what) {
				return nil
			}
			return connect.Errorf(connect.CodeInternal, "%q was printed, not %q", line, what)
		case <-time.After(10 * time.Second):
			return connect.Errorf(connect.CodeInternal, "%q was not printed when it was sent", what)
		}
	}
}

// What a stream brings is printed when it comes: the service waits for each line before it goes on.
func TestStreamsArePrintedAsTheyCome(t *testing.T) {
	for _, test := range []struct {
		args    string
		answers func(*lines) []any
	}{
		{"message watch m1", func(l *lines) []any {
			return []any{change1(queued, ""), l.comes("queued"), change1(sending, ""), l.comes("sending"), change1(delivered, "")}
		}},
		{"message watch m1 --json", func(l *lines) []any {
			return []any{change1(queued, ""), l.comes("QUEUED"), change1(delivered, "")}
		}},
		{"message send --to a@example.com --text x --wait", func(l *lines) []any {
			return []any{&mailkeepv1.SendMessageResponse{Id: "m1"}, l.comes("m1\n"), change1(queued, ""), l.comes("queued"), change1(delivered, "")}
		}},
		{"provider rotate p", func(l *lines) []any {
			return []any{passed("dns"), l.comes("dns"), passed("auth"), l.comes("auth"), rotated(2, nil)}
		}},
	} {
		out, errs := &lines{written: make(chan string, 1)}, &bytes.Buffer{}
		f := startFake(t, test.answers(out)...)
		if status := run(t.Context(), f.args(test.args), streams{strings.NewReader("new"), out, errs}); status != 0 {
			t.Errorf("%s: %s%s", test.args, out, errs)
		}
	}
}

// A stream outlives --timeout: it goes on after a call that began later has used up the same time.
func TestStreamsHaveNoTimeout(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for args, answers := range map[string][]any{
		"message watch m1":  {change1(queued, ""), nil, change1(delivered, "")},
		"provider rotate p": {passed("dns"), nil, rotated(2, nil)},
	} {
		answers[1] = func(context.Context) error {
			call := runWith(t, "", startFake(t, hang).args("message get m1 --timeout 50ms")...)
			if !strings.Contains(call.err, "did not answer in time") {
				return connect.NewError(connect.CodeInternal, call.err)
			}
			return nil
		}
		if got := runWith(t, "new", startFake(t, answers...).args(args+" --timeout 50ms")...); got.status != 0 {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

// Ctrl-C ends the command and the call. It is the way to end a watch of all mails.
func TestInterruptedStreams(t *testing.T) {
	for args, want := range map[string]result{
		"message watch":    {noon + "  m1  queued\n", "", 0},
		"message watch m1": {noon + "  m1  queued\n", "mailkeep: interrupted\n", 1},
		"message send --to a@example.com --text x --wait": {"m1\n" + noon + "  m1  queued\n",
			"mailkeep: the mail is taken, but what became of it is not known: interrupted\n", 1},
		"provider rotate p": {"ok      dns            1 ms  found\n", "mailkeep: interrupted; it is not known whether the password is stored: " +
			"`mailkeep provider status p` shows the version in use\n", 1},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		hang := func(ctx context.Context) error {
			interrupt()
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		out, errs := &lines{written: make(chan string, 3)}, &bytes.Buffer{}
		answers := []any{change1(queued, ""), out.comes("queued"), hang}
		if strings.Contains(args, "rotate") {
			answers = []any{passed("dns"), out.comes("dns"), hang}
		} else if strings.Contains(args, "send") {
			answers = []any{&mailkeepv1.SendMessageResponse{Id: "m1"}, out.comes("m1"), change1(queued, ""), out.comes("queued"), hang}
		}
		status := run(ctx, startFake(t, answers...).args(args), streams{strings.NewReader("new"), out, errs})
		if got := (result{out.String(), errs.String(), status}); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", args, got, want)
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Errorf("%s goes on at the service", args)
		}
	}
}

// A pipe whose reader went away ends a stream, too.
func TestNobodyReads(t *testing.T) {
	gone := errors.New("broken pipe")
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	var errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	status := run(ctx, startFake(t, change1(queued, ""), hang).args("message watch"), streams{nil, failing{gone}, &errs})
	if status != 1 || errs.String() != "mailkeep: broken pipe\n" {
		t.Error(status, errs.String())
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
