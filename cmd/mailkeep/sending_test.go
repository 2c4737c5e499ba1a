package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// waitFor waits until a mail is in a state after so many attempts.
func waitFor(mail string, state outbox.State, attempts int) func(*service, *testing.T, *names) {
	return func(s *service, t *testing.T, names *names) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		reached := errors.New("reached")
		err := s.app.Messages.Watch(ctx, instance.Default, names.expand(mail), "", nil, func(m outbox.Message) error {
			if m.State == state && m.Attempts >= attempts {
				return reached
			}
			return nil
		})
		if !errors.Is(err, reached) {
			t.Fatalf("%s is not %s: %v", mail, state, err)
		}
	}
}

func allow(password string) func(*service, *testing.T, *names) {
	return func(s *service, _ *testing.T, _ *names) { s.mail.AllowPassword("user", password) }
}

const (
	mailsHead    = "ID  STATE  TAKEN  RECIPIENTS  TAG  ATTEMPTS  PROVIDER  CREDENTIAL  REASON\n"
	attemptsHead = "ATTEMPT  BEGAN  PROVIDER  CREDENTIAL  RESULT  FAILED AT  CODE  TEXT  TIMES\n"
	usesHead     = "CREDENTIAL  MAILS  FAILURES  FIRST USED  LAST SUCCESS  LAST FAILURE\n"

	connected = "ok  dns  N ms  an address, no lookup\nok  tcp  N ms\n" +
		"ok  tls  N ms  the server does not begin with TLS; a new connection tries STARTTLS\n" +
		"ok  dns  N ms  an address, no lookup\nok  tcp  N ms\nok  greeting  N ms  220 smtptest.localhost ESMTP Service Ready\n" +
		"ok  ehlo  N ms  250 Hello [127.0.0.1], offers PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES, CHUNKING, STARTTLS, SIZE 16777216\n" +
		"ok  starttls  N ms  220 2.0.0 Ready to start TLS, TLS 1.3, certificate valid until DATE\n" +
		"ok  ehlo  N ms  250 Hello [127.0.0.1], offers PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES, CHUNKING, SIZE 16777216, AUTH PLAIN LOGIN\n"
	loggedIn    = connected + "ok  auth  N ms  235 2.0.0 Authentication succeeded, with PLAIN\n"
	notLoggedIn = connected + "FAILED  auth  N ms  535 5.7.8 Authentication failed, with PLAIN\n"

	delivered1 = "id: M1\nstate: delivered\ntag: t\nidempotency-key: k\ntaken: TIME\nchanged: TIME\ngiven-up: TIME\nattempts: 1\n" +
		"provider: ID1\ncredential-version: 1\n\nRECIPIENT  AS  STATE  CODE  TEXT\na@example.com  to  accepted  -  -\n" +
		"b@example.com  cc  accepted  -  -\n\n" + attemptsHead + "1  TIME  ID1  1  accepted  -  -  -  dial N ms, tls N ms, ehlo N ms, " +
		"starttls N ms, auth N ms, from N ms, recipient N ms, data N ms\n"
)

// sendingSteps are the life of mails, some of them while the stored password is wrong.
var sendingSteps = []step{
	{args: "message send --to a@example.com --text x", status: 1,
		err: "mailkeep: no email provider is active; activate one first (MAILKEEP-NOACTIVE)\n"},
	{args: "provider add-smtp --host MAIL --sender-address from@example.com --sender-name From --user user --password-stdin",
		stdin: "first", out: "id: ID1\n" + changed},
	{args: "provider activate ID1", out: "id: ID1\n" + changed},
	{args: "provider status ID1", out: "id: ID1\nstate: active\ncredential-version: 1\nset: TIME\nset-by: admin\nfirst-used: not yet\n" +
		"breaker: closed\n\n" + usesHead + "1  0  0  -  -  -\n"},

	{args: "message send --to a@example.com --cc b@example.com --subject S --text x --tag t --idempotency-key k --wait",
		out: "M1\nTIME  M1  delivered  tag t, attempts 1, provider ID1, credential-version 1\n"},
	{args: "message send --to a@example.com --cc b@example.com --subject S --text x --tag t --idempotency-key k", out: "M1\n"},
	{args: "message send --to a@example.com --text other --idempotency-key k", status: 1,
		err: "mailkeep: idempotency_key was used for another mail (MAILKEEP-IDEMPOTENCY)\n"},
	{args: "message get M1", out: delivered1},
	{args: "message get M1 --content", out: delivered1, status: 1,
		err: "mailkeep: the content was erased when the mail was settled; serve with --keep-bodies to keep contents (MAILKEEP-ERASED)\n"},
	{args: "message list --tag t", out: mailsHead + "M1  delivered  TIME  a@example.com and 1 more  t  1  ID1  1  -\n"},

	// With a wrong password mails wait, and can be cancelled.
	{args: "provider set-password ID1", stdin: "wrong", out: "id: ID1\n" + changed},
	{args: "message send --to later@example.com --text x", out: "M2\n"},
	{before: waitFor("M2", outbox.Queued, 1), args: "message get M2",
		out: "id: M2\nstate: queued\nreason: auth: 535 5.7.8 Authentication failed\ntaken: TIME\nchanged: TIME\nnext-attempt: TIME\n" +
			"given-up: TIME\nattempts: 1\nprovider: ID1\ncredential-version: 2\n\nRECIPIENT  AS  STATE  CODE  TEXT\n" +
			"later@example.com  to  pending  -  -\n\n" + attemptsHead + "1  TIME  ID1  2  failed  auth  535  5.7.8 Authentication failed  " +
			"dial N ms, tls N ms, ehlo N ms, starttls N ms, auth N ms\n"},
	{args: "message list --state queued --recipient later@example.com",
		out: mailsHead + "M2  queued  TIME  later@example.com  -  1  ID1  2  auth: 535 5.7.8 Authentication failed\n"},
	{args: "provider status ID1", out: "id: ID1\nstate: active\ncredential-version: 2\nset: TIME\nset-by: admin\nfirst-used: not yet\n" +
		"last-failure: TIME at auth: 535 5.7.8 Authentication failed\nbreaker: open, next probe TIME\n" +
		"rollback: to version 1 until TIME\n\n" + usesHead +
		"2  0  1  -  -  TIME at auth: 535 5.7.8 Authentication failed\n1  1  0  TIME  TIME  -\n"},
	{args: "message cancel M2", out: "id: M2\nstate: cancelled\nreason: auth: 535 5.7.8 Authentication failed\ntaken: TIME\nchanged: TIME\n" +
		"given-up: TIME\nattempts: 1\nprovider: ID1\ncredential-version: 2\n"},
	{args: "message watch M2", out: "TIME  M2  cancelled  attempts 1, provider ID1, credential-version 2, reason auth: 535 5.7.8 Authentication failed\n"},
	{args: "message retry M2", status: 1, err: "mailkeep: the mail is being sent or has ended; see its state (MAILKEEP-STATE)\n"},

	// The right one sends what waits, without another try of the wrong one.
	{args: "message send --to later@example.com --text x", out: "M3\n"},
	{args: "provider rotate ID1", stdin: "also-wrong", out: notLoggedIn, status: 1,
		err: "mailkeep: not stored: the new password was not stored: verification failed at step auth: 535 5.7.8 Authentication failed (EMAIL-s9kfs)\n"},
	{args: "provider rotate ID1", stdin: "first", out: loggedIn + "stored as credential version 3; the next mail uses it\n"},
	{before: waitFor("M3", outbox.Delivered, 1), args: "message list --provider ID1 --recipient later@example.com", out: mailsHead +
		"M3  delivered  TIME  later@example.com  -  1  ID1  3  -\n" +
		"M2  cancelled  TIME  later@example.com  -  1  ID1  2  auth: 535 5.7.8 Authentication failed\n"},
	{args: "provider status ID1", out: "id: ID1\nstate: active\ncredential-version: 3\nset: TIME\nset-by: admin\nfirst-used: TIME\n" +
		"last-success: TIME\nbreaker: closed\ncertificate: valid until TIME, N days left\nrollback: to version 2 until TIME\n\n" +
		usesHead + "3  1  0  TIME  TIME  -\n2  0  1  -  -  TIME at auth: 535 5.7.8 Authentication failed\n1  1  0  TIME  TIME  -\n"},

	{args: "provider rollback ID1", out: notLoggedIn, status: 1,
		err: "mailkeep: not stored: the previous password was not brought back: verification failed at step auth: 535 5.7.8 Authentication failed (EMAIL-s9kfs)\n"},
	{before: allow("second"), args: "provider rotate ID1", stdin: "second\n",
		out: loggedIn + "stored as credential version 4; the next mail uses it\n"},
	{args: "provider rollback ID1", out: loggedIn + "stored as credential version 5; the next mail uses it\n"},
	{args: "message send --bcc c@example.com --text x --wait", out: "M4\nTIME  M4  delivered  attempts 1, provider ID1, credential-version 5\n"},
	{args: "provider verify ID1 --recipient c@example.com", out: loggedIn + "ok  from  N ms  250 2.0.0 Roger, accepting mail from <from@example.com>\n" +
		"ok  recipient  N ms  250 2.0.0 I'll make sure <c@example.com> gets this\nok  rset  N ms  250 2.0.0 Session reset\n"},
	{args: "provider events ID1", out: "SEQUENCE  WHEN  WHAT  WHO  PROTOCOL  DEPRECATED  CREDENTIAL  FIELDS\n" +
		"1  TIME  provider.added  admin  connect  -  1  sender_address,sender_name,tls,host,user,reply_to_address,description,password\n" +
		"2  TIME  provider.activated  admin  connect  -  1  state\n" +
		"3  TIME  provider.password_changed  admin  connect  -  2  password\n" +
		"4  TIME  provider.password_changed  admin  connect  -  3  password\n" +
		"5  TIME  provider.password_changed  admin  connect  -  4  password\n" +
		"6  TIME  provider.password_rolled_back  admin  connect  -  5  password\n"},
}

func TestSendingAndRotating(t *testing.T) {
	s := startService(t, func(c *app.Config) { c.KeepPrevious = time.Hour })
	s.mail.SetPassword("user", "first")
	s.check(t, sendingSteps)

	// What the mail server saw of it: the versions of its passwords are first 1 and second 2.
	var mails []string
	for _, m := range s.mail.Mails() {
		mails = append(mails, fmt.Sprintf("%s with %d", m.To, m.Version))
	}
	if diff := cmp.Diff([]string{"[a@example.com b@example.com] with 1", "[later@example.com] with 1", "[c@example.com] with 1"}, mails); diff != "" {
		t.Errorf("mails at the mail server (-want +got):\n%s", diff)
	}
	refused := 0
	for _, a := range s.mail.Attempts() {
		if !a.OK {
			refused++
		}
	}
	// The mail that met the wrong password, the rotation and the rollback that were refused.
	if refused != 3 {
		t.Errorf("the mail server has refused %d logins, want 3", refused)
	}
}

// A token of an application sends mails and sees what becomes of them, and that is all.
func TestMessageSender(t *testing.T) {
	s := startService(t, nil)
	s.mail.SetPassword("user", "first")
	id := s.add(t, "first")
	if got := s.run(t, "", "provider", "activate", id); got.status != 0 {
		t.Fatal(got.err)
	}
	made := s.run(t, "", "token", "create", "app", "--role", "MESSAGE_SENDER")
	token := []string{"--token-file", writeFile(t, "token", []byte(made.out))}
	sent := s.run(t, "", append([]string{"message", "send", "--to", "you@example.com", "--text", "x", "--wait"}, token...)...)
	if sent.status != 0 || !strings.Contains(sent.out, "delivered") {
		t.Fatalf("%+v", sent)
	}
	mail := mailPattern.FindString(sent.out)
	for _, allowed := range []string{"message get " + mail, "message list"} {
		if got := s.run(t, "", append(strings.Fields(allowed), token...)...); got.status != 0 || !strings.Contains(got.out, mail) {
			t.Errorf("%s: %+v", allowed, got)
		}
	}
	const denied = "no permission for this method (AUTH-5mWD2)"
	for args, want := range map[string]string{
		"provider rotate " + id: "not stored: " + denied, "provider rollback " + id: "not stored: " + denied,
		"provider set-password " + id: denied, "provider status " + id: denied, "provider events " + id: denied,
		"provider verify " + id: denied, "provider list": denied, "token list": denied,
	} {
		got := s.run(t, "second", append(strings.Fields(args), token...)...)
		if want := (result{"", "mailkeep: " + want + "\n", 1}); got != want {
			t.Errorf("%s: %+v", args, got)
		}
	}
	content := s.run(t, "", append([]string{"message", "get", mail, "--content"}, token...)...)
	if content.status != 1 || content.err != "mailkeep: "+denied+"\n" {
		t.Errorf("%+v", content)
	}
}
