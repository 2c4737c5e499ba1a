package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

func asProgress(s *mailkeepv1.VerificationStep) *mailkeepv1.WatchRotatePasswordResponse {
	return &mailkeepv1.WatchRotatePasswordResponse{Progress: &mailkeepv1.WatchRotatePasswordResponse_Step{Step: s}}
}

func passed(step string) *mailkeepv1.WatchRotatePasswordResponse {
	return asProgress(&mailkeepv1.VerificationStep{Step: step, Passed: true, Text: "found", Duration: durationpb.New(time.Millisecond)})
}

func rotated(version uint64, report *mailkeepv1.VerificationReport) *mailkeepv1.WatchRotatePasswordResponse {
	return &mailkeepv1.WatchRotatePasswordResponse{Progress: &mailkeepv1.WatchRotatePasswordResponse_Result{
		Result: &mailkeepv1.RotatePasswordResponse{CredentialVersion: version, Report: report},
	}}
}

// allSteps is what a server with STARTTLS goes through, up to a wrong password.
var allSteps = []*mailkeepv1.VerificationStep{
	{Step: "tcp", Passed: true, Duration: durationpb.New(400 * time.Microsecond)},
	{Step: "greeting", Passed: true, Code: 220, Text: "mail.example.com \x1b[2J", Duration: durationpb.New(time.Millisecond)},
	{Step: "ehlo", Passed: true, Code: 250, Capabilities: []string{"PIPELINING", "AUTH PLAIN LOGIN", "STARTTLS"}, Mechanisms: []string{"PLAIN", "LOGIN"}},
	{Step: "starttls", Passed: true, Duration: durationpb.New(12 * time.Millisecond), Tls: &mailkeepv1.TLSDetails{
		Version: "TLS 1.3", CipherSuite: "X", Chain: []*mailkeepv1.CertificateDetails{{Subject: "CN=mail", ExpirationDate: at(0)}, {}}}},
	{Step: "auth", Code: 535, Text: "5.7.8 authentication failed", Mechanism: "PLAIN", Duration: durationpb.New(31 * time.Millisecond)},
}

const allLines = `ok      tcp            0 ms
ok      greeting       1 ms  220 mail.example.com \x1b[2J
ok      ehlo           0 ms  250, offers PIPELINING, STARTTLS, AUTH PLAIN LOGIN
ok      starttls      12 ms  TLS 1.3, certificate valid until 2027-03-01
FAILED  auth          31 ms  535 5.7.8 authentication failed, with PLAIN
`

// refusal is what a verification that fails under ENFORCE is answered with.
func refusal(t *testing.T) error {
	t.Helper()
	detail, err := connectproto.NewErrorDetail(&mailkeepv1.VerificationReport{Steps: allSteps})
	if err != nil {
		t.Fatal(err)
	}
	return connect.NewError(connect.CodeUnavailable, "failed at step auth: 535 5.7.8 authentication failed (EMAIL-s9kfs)").WithDetail(detail)
}

func TestRotate(t *testing.T) {
	request := func(mode mailkeepv1.VerifyMode, user *string) []proto.Message {
		return []proto.Message{&mailkeepv1.WatchRotatePasswordRequest{Rotation: &mailkeepv1.RotatePasswordRequest{
			Id: "p", Password: " new ", User: user, Verify: mode,
		}}}
	}
	var streamed []any
	for _, s := range allSteps {
		streamed = append(streamed, asProgress(s))
	}
	enforced := request(mailkeepv1.VerifyMode_VERIFY_MODE_ENFORCE, nil)
	const notStored = "mailkeep: not stored: failed at step auth: 535 5.7.8 authentication failed (EMAIL-s9kfs)\n"
	const unknown = "; it is not known whether the password is stored: `mailkeep provider status p` shows the version in use\n"
	for _, x := range []exchange{
		{name: "accepted", args: "provider rotate p", requests: enforced,
			answers: []any{passed("dns"), passed("auth"), rotated(3, &mailkeepv1.VerificationReport{Passed: true})},
			out:     "ok      dns            1 ms  found\nok      auth           1 ms  found\nstored as credential version 3; the next mail uses it\n"},
		{name: "another user, whatever the server says", args: "provider rotate p --user u --verify warn",
			requests: request(mailkeepv1.VerifyMode_VERIFY_MODE_WARN, proto.String("u")),
			answers:  append(streamed[:len(streamed):len(streamed)], rotated(3, &mailkeepv1.VerificationReport{Steps: allSteps})),
			out:      allLines + "stored as credential version 3 although the verification failed; the next mail uses it\n"},
		{name: "no user, without asking", args: "provider rotate p --user= --verify off", answers: []any{rotated(3, nil)},
			requests: request(mailkeepv1.VerifyMode_VERIFY_MODE_OFF, proto.String("")), out: "stored as credential version 3; the next mail uses it\n"},
		{name: "JSON, a line each", args: "provider rotate p --json", requests: enforced, answers: []any{passed("dns"), rotated(3, nil)},
			out: `{"step":{"step":"dns","passed":true,"duration":"0.001s","text":"found"}}` + "\n" + `{"result":{"credentialVersion":"3"}}` + "\n"},
		{name: "refused", args: "provider rotate p", requests: enforced, status: 1, out: allLines, err: notStored,
			answers: append(streamed[:len(streamed):len(streamed)], refusal(t))},
		{name: "refused, with a report that has more than was streamed", args: "provider rotate p", requests: enforced, status: 1,
			answers: append(streamed[:2:2], refusal(t)), out: allLines, err: notStored},
		{name: "refused in JSON", args: "provider rotate p --json", requests: enforced, status: 1, answers: []any{refusal(t)}, err: notStored},
		{name: "unknown", args: "provider rotate p", requests: enforced, status: 1, err: "mailkeep: not stored: not found (QUERY-fwofw)\n",
			answers: []any{connect.NewError(connect.CodeNotFound, "not found (QUERY-fwofw)")}},
		{name: "the outcome is unknown", args: "provider rotate p", requests: enforced, status: 1, out: "ok      dns            1 ms  found\n",
			answers: []any{passed("dns"), connect.NewError(connect.CodeUnavailable, "the database is gone")}, err: "mailkeep: the database is gone" + unknown},
		{name: "no result", args: "provider rotate p", requests: enforced, status: 1, out: "ok      dns            1 ms  found\n",
			answers: []any{passed("dns")}, err: "mailkeep: the service has ended the stream without a result" + unknown},
		{name: "an error after the result", args: "provider rotate p", requests: enforced,
			answers: []any{rotated(3, nil), errors.New("late")}, out: "stored as credential version 3; the next mail uses it\n"},
	} {
		x.stdin = " new \r\n"
		t.Run(x.name, x.check)
	}
	exchange{args: "provider rotate p", err: "mailkeep: the new password is empty; nothing was changed\n", status: 1}.check(t)
}

func TestNotStoredWhereThereIsNoService(t *testing.T) {
	file := writeFile(t, "token", []byte("some-token"))
	for _, command := range []string{"rotate", "rollback"} {
		got := runWith(t, "new", "provider", command, "p", "--url", "http://127.0.0.1:1", "--token-file", file)
		const want = "mailkeep: not stored: nothing answers at http://127.0.0.1:1: is `mailkeep serve` running? " +
			"--url names a service elsewhere, --data-dir the data folder of one on this machine\n"
		if got != (result{"", want, 1}) {
			t.Errorf("%+v", got)
		}
	}
}

func TestRollback(t *testing.T) {
	request := func(mode mailkeepv1.VerifyMode) []proto.Message {
		return []proto.Message{&mailkeepv1.RollbackPasswordRequest{Id: "p", Verify: mode}}
	}
	enforced := request(mailkeepv1.VerifyMode_VERIFY_MODE_ENFORCE)
	for _, x := range []exchange{
		{name: "accepted", args: "provider rollback p", requests: enforced,
			answers: []any{&mailkeepv1.RollbackPasswordResponse{CredentialVersion: 4, Report: &mailkeepv1.VerificationReport{Passed: true, Steps: allSteps[:1]}}},
			out:     "ok      tcp            0 ms\nstored as credential version 4; the next mail uses it\n"},
		{name: "without asking", args: "provider rollback p --verify off --json", requests: request(mailkeepv1.VerifyMode_VERIFY_MODE_OFF),
			answers: []any{&mailkeepv1.RollbackPasswordResponse{CredentialVersion: 4}}, out: "{\n  \"credentialVersion\": \"4\"\n}\n"},
		{name: "refused", args: "provider rollback p", requests: enforced, answers: []any{refusal(t)}, status: 1, out: allLines,
			err: "mailkeep: not stored: failed at step auth: 535 5.7.8 authentication failed (EMAIL-s9kfs)\n"},
		{name: "none is kept", args: "provider rollback p", requests: enforced, status: 1, err: "mailkeep: not stored: none (MAILKEEP-NOPREVIOUS)\n",
			answers: []any{connect.NewError(connect.CodeFailedPrecondition, "none (MAILKEEP-NOPREVIOUS)")}},
	} {
		t.Run(x.name, x.check)
	}
}

func TestNewPasswordsAreNeverShown(t *testing.T) {
	const canary = "c4n4ry~Üser pass/w0rd?x=1&y"
	verified := &mailkeepv1.VerifySettingsResponse{Report: &mailkeepv1.VerificationReport{Steps: allSteps}}
	var shown strings.Builder
	for _, command := range []string{"provider rotate p", "provider verify --host h:25 --user u --password-stdin"} {
		for _, mode := range []string{"", " --json", " --url http://127.0.0.1:1"} {
			ctx, interrupt := context.WithCancel(t.Context())
			hang := func(ctx context.Context) error { interrupt(); <-ctx.Done(); return ctx.Err() }
			for _, answers := range [][]any{
				nil, {rotated(2, nil)}, {passed("dns"), refusal(t)}, {errors.New("broken")}, {verified}, {hang}, // which must be the last
			} {
				args := append(startFake(t, answers...).args(command), strings.Fields(mode)...)
				var out bytes.Buffer
				run(ctx, args, streams{strings.NewReader(canary), &out, &out})
				shown.WriteString(out.String())
			}
			interrupt()
		}
	}
	if !strings.Contains(shown.String(), "FAILED  auth") || !strings.Contains(shown.String(), "stored as") {
		t.Error("the commands did not run")
	}
	for _, form := range forms(canary) {
		if strings.Contains(shown.String(), form) {
			t.Errorf("%q is shown", form)
		}
	}
}
