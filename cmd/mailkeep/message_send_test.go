package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

func TestSend(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"b.txt": "Zeile ü\n", "b.html": "<p>ü", "l.txt": "\xfc", "i.pdf": "%PDF", "none": "\x00"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := func(flag, name string) string { return " --" + flag + " " + filepath.Join(dir, name) }
	taken := &mailkeepv1.SendMessageResponse{Id: "m1"}
	plain := &mailkeepv1.SendMessageRequest{To: []string{"a@example.com"}, Text: "x"}
	watch := &mailkeepv1.WatchMessagesRequest{Id: "m1"}
	for _, x := range []exchange{
		{name: "all of it",
			args: "message send --to a@example.com --to b@example.com --cc c@example.com --bcc d@example.com --reply-to e@example.com " +
				"--subject A·B --header List-Id:·news:1 --header X-Y:z --idempotency-key k --expires-in 72h --tag t" +
				file("text-file", "b.txt") + file("html-file", "b.html") + file("attach", "b.txt") + file("attach", "l.txt") +
				file("attach", "i.pdf") + file("attach", "none"),
			answers: []any{taken}, out: "m1\n",
			requests: []proto.Message{&mailkeepv1.SendMessageRequest{
				To: []string{"a@example.com", "b@example.com"}, Cc: []string{"c@example.com"}, Bcc: []string{"d@example.com"},
				ReplyTo: "e@example.com", Subject: "A B", Text: "Zeile ü\n", Html: "<p>ü", Tag: "t", IdempotencyKey: "k",
				Headers:   []*mailkeepv1.Header{{Name: "List-Id", Value: "news:1"}, {Name: "X-Y", Value: "z"}},
				ExpiresIn: durationpb.New(72 * time.Hour),
				Attachments: []*mailkeepv1.Attachment{
					{Name: "b.txt", ContentType: "text/plain; charset=utf-8", Data: []byte("Zeile ü\n")},
					{Name: "l.txt", ContentType: "text/plain", Data: []byte("\xfc")},
					{Name: "i.pdf", ContentType: "application/pdf", Data: []byte("%PDF")},
					{Name: "none", Data: []byte("\x00")},
				},
			}}},
		{name: "standard input is the text, as it is", args: "message send --to a@example.com --text-file -", stdin: " ü\n\n",
			answers: []any{taken}, out: "m1\n", requests: []proto.Message{&mailkeepv1.SendMessageRequest{To: []string{"a@example.com"}, Text: " ü\n\n"}}},
		{name: "a comma does not separate", args: "message send --bcc a,b@example.com --html x", answers: []any{taken}, out: "m1\n",
			requests: []proto.Message{&mailkeepv1.SendMessageRequest{Bcc: []string{"a,b@example.com"}, Html: "x"}}},
		{name: "JSON", args: "message send --to a@example.com --text x --json", answers: []any{taken},
			out: "{\n  \"id\": \"m1\"\n}\n", requests: []proto.Message{plain}},
		{name: "refused", args: "message send --to a@example.com --text x", status: 1,
			answers:  []any{connect.NewError(connect.CodeFailedPrecondition, "there is no active provider (MAILKEEP-NOACTIVE)")},
			err:      "mailkeep: there is no active provider (MAILKEEP-NOACTIVE)\n",
			requests: []proto.Message{plain}},
		{name: "wait until it is delivered", args: "message send --to a@example.com --text x --wait",
			answers:  []any{taken, change1(queued, ""), change1(sending, ""), change1(delivered, "")},
			out:      "m1\n" + noon + "  m1  queued\n" + noon + "  m1  sending\n" + noon + "  m1  delivered\n",
			requests: []proto.Message{plain, watch}},
		{name: "wait in JSON", args: "message send --to a@example.com --text x --wait --json",
			answers: []any{taken, change1(delivered, "")}, requests: []proto.Message{plain, watch},
			out: `{"id":"m1"}` + "\n" + `{"message":{"id":"m1","state":"MESSAGE_STATE_DELIVERED","changeDate":"` + noonJSON + `"}}` + "\n"},
		{name: "wait and fail", args: "message send --to a@example.com --text x --wait", status: 1,
			answers: []any{taken, change1(failed, "550 no\nsuch\x1b user")}, requests: []proto.Message{plain, watch},
			out: "m1\n" + noon + `  m1  failed     reason 550 no\nsuch\x1b user` + "\n",
			err: `mailkeep: not delivered: failed, 550 no\nsuch\x1b user` + "\n"},
		{name: "wait and expire", args: "message send --to a@example.com --text x --wait", status: 1,
			answers: []any{taken, change1(expired, "")}, requests: []proto.Message{plain, watch},
			out: "m1\n" + noon + "  m1  expired\n", err: "mailkeep: not delivered: expired\n"},
		{name: "wait for one that somebody cancels", args: "message send --to a@example.com --text x --wait", status: 1,
			answers: []any{taken, change1(cancelled, "")}, requests: []proto.Message{plain, watch},
			out: "m1\n" + noon + "  m1  cancelled\n", err: "mailkeep: not delivered: cancelled\n"},
		{name: "wait too short", args: "message send --to a@example.com --text x --wait", status: 1,
			answers: []any{taken, change1(queued, "")}, requests: []proto.Message{plain, watch},
			out: "m1\n" + noon + "  m1  queued\n",
			err: "mailkeep: the service has ended the stream before the mail was settled; `mailkeep message get` shows what became of it\n"},
		{name: "wait without permission to watch", args: "message send --to a@example.com --text x --wait", status: 1,
			answers:  []any{taken, connect.NewError(connect.CodePermissionDenied, "no permission for this method (AUTH-5mWD2)")},
			requests: []proto.Message{plain, watch}, out: "m1\n",
			err: "mailkeep: the mail is taken, but what became of it is not known: no permission for this method (AUTH-5mWD2)\n"},
	} {
		t.Run(x.name, x.check)
	}
}

func TestSendReadsOnlyWhatCanBeAMail(t *testing.T) {
	f := startFake(t)
	large := writeFile(t, "large", make([]byte, maxFile+1))
	for args, want := range map[string]string{
		"--attach /nowhere":                "--attach: open /nowhere: no such file or directory",
		"--attach " + large:                "--attach: " + large + ": too large for a mail",
		"--text-file " + large:             "--text-file: " + large + ": too large for a mail",
		"--html-file -":                    "--html-file: the text is not UTF-8",
		"--text x --header nonsense":       `--header must be NAME:VALUE, not "nonsense"`,
		"--text x --header ·:x":            `--header must be NAME:VALUE, not " :x"`,
		"--text-file " + t.TempDir():       "is a directory",
		"--text x --attach " + "/dev/zero": "--attach: /dev/zero: too large for a mail",
	} {
		got := runWith(t, "\xff", f.args("message send --to a@example.com "+args)...)
		if got.out != "" || !strings.HasSuffix(got.err, want+"\n") || got.status != 1 {
			t.Errorf("%s: %+v", args, got)
		}
	}
	if len(f.messageFake.requests) > 0 {
		t.Error("something was sent")
	}
}
