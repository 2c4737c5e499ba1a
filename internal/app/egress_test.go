package app_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/egress"
)

// ask calls a method over a wire.
func ask(t *testing.T, w wire, method, body string) answer {
	t.Helper()
	m := methods()[method]
	return w.call(t, adminToken, m, message(t, string(m.Descriptor.Input().FullName()), body))
}

// TestDeniedTargets: what names a host refuses those that are denied with one instance too, by both
// generations and our own methods, over every protocol, in the same words.
func TestDeniedTargets(t *testing.T) {
	s := start(t, config(t))
	server := inbox(t, "p1")
	id := s.addProvider(t, server.Addr(), "p1")
	hook := ask(t, s.wires(http1)[0], "AddEmailProviderHTTP", `{"endpoint":"http://127.0.0.1:1/"}`).fields.at("id")
	smtp := func(host string) string {
		return fmt.Sprintf(`"senderAddress":"sender@example.com","senderName":"Sender","host":%q,"user":"mailkeep","password":"p1"`, host)
	}
	for _, w := range s.wires(http1) {
		texts := map[string]bool{}
		for _, host := range []string{"169.254.169.254:80", "[fe80::1]:25", "[::ffff:169.254.169.254]:80", "2852039166:80", "0.0.0.0:25", "100.100.100.200:80"} {
			for method, body := range map[string]string{
				"AddSMTPConfig":           `{` + smtp(host) + `}`,
				"AddEmailProviderSMTP":    `{` + smtp(host) + `}`,
				"UpdateSMTPConfig":        fmt.Sprintf(`{"id":%q,%s}`, id, smtp(host)),
				"UpdateEmailProviderSMTP": fmt.Sprintf(`{"id":%q,%s}`, id, smtp(host)),
				"TestSMTPConfig":          `{` + smtp(host) + `,"receiverAddress":"r@example.com"}`,
				"TestEmailProviderSMTP":   `{` + smtp(host) + `,"receiverAddress":"r@example.com"}`,
				"VerifySettings":          fmt.Sprintf(`{"smtp":{"host":%q}}`, host),
				"VerifyProvider":          fmt.Sprintf(`{"id":%q,"smtp":{"host":%q,"user":"mailkeep","password":"p1"}}`, id, host),
				"AddEmailProviderHTTP":    fmt.Sprintf(`{"endpoint":"http://%s/"}`, host),
				"UpdateEmailProviderHTTP": fmt.Sprintf(`{"id":%q,"endpoint":"http://%s/"}`, hook, host),
			} {
				a := ask(t, w, method, body)
				setting := "host "
				if strings.HasSuffix(method, "HTTP") {
					setting = "endpoint "
				}
				if a.code != connect.CodeFailedPrecondition || a.id != "MAILKEEP-EGRESS" || !strings.HasPrefix(a.message, setting) {
					t.Errorf("%s %s of %s: %v", w.name, method, host, a)
				}
				texts[a.message] = true
			}
		}
		if len(texts) != 2 {
			t.Errorf("%s: answers differ: %v", w.name, texts)
		}
	}
	s.sendTest(t, id) // as it was, and on loopback
	if n := len(server.Mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// TestProviderCA: a server with an authority of its own is trusted from the moment that this is set until it
// is taken away, whatever updates come between.
func TestProviderCA(t *testing.T) {
	s := start(t, config(t))
	ca, err := smtptest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	server, err := smtptest.Start(smtptest.Options{Mode: smtptest.StartTLS, CA: ca, DemandAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	server.SetPassword(user, "p1")
	settings := fmt.Sprintf(`"senderAddress":"sender@example.com","senderName":"Sender","host":%q,"tls":true,"user":"mailkeep","password":"p1"`, server.Addr())
	pem, _ := json.Marshal(string(ca.PEM()))
	mails := 0
	for _, w := range s.wires(http1) {
		added := ask(t, w, "AddEmailProviderSMTP", `{`+settings+`}`)
		id := fmt.Sprint(added.fields.at("id"))
		test := func(passes bool) {
			t.Helper()
			a := ask(t, w, "TestEmailProviderSMTPById", fmt.Sprintf(`{"id":%q,"receiverAddress":"r@example.com"}`, id))
			if passes {
				mails++
			}
			if (a.code == 0) != passes || len(server.Mails()) != mails {
				t.Errorf("%s: %v, %d mails", w.name, a, len(server.Mails()))
			}
		}
		test(false)
		set := ask(t, w, "SetProviderCA", fmt.Sprintf(`{"id":%q,"caPem":%s}`, id, pem))
		if set.code != 0 || set.fields.at("changeDate") == nil {
			t.Fatalf("%s: %v", w.name, set)
		}
		test(true)
		for _, update := range []string{"UpdateSMTPConfig", "UpdateEmailProviderSMTP"} {
			if a := ask(t, w, update, fmt.Sprintf(`{"id":%q,%s,"description":%q}`, id, settings, update)); a.code != 0 {
				t.Errorf("%s: %v", w.name, a)
			}
			test(true)
		}
		got := ask(t, w, "GetProviderCA", fmt.Sprintf(`{"id":%q}`, id))
		if got.fields.at("caPem") != string(ca.PEM()) || !strings.Contains(fmt.Sprint(got.fields.at("certificates")), "CN=smtptest CA") {
			t.Errorf("%s: %v", w.name, got)
		}
		if a := ask(t, w, "SetProviderCA", fmt.Sprintf(`{"id":%q,"caPem":"nonsense"}`, id)); a.code != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", w.name, a)
		}
		test(true)
		if a := ask(t, w, "SetProviderCA", fmt.Sprintf(`{"id":%q}`, id)); a.code != 0 {
			t.Errorf("%s: %v", w.name, a)
		}
		test(false)
		verified := ask(t, w, "VerifySettings", fmt.Sprintf(`{"smtp":{"host":%q,"tls":true,"caPem":%s}}`, server.Addr(), pem))
		if verified.fields.at("report", "passed") != true {
			t.Errorf("%s: %v", w.name, verified)
		}
	}
}

// TestMailsWaitForDenied: a mail whose provider leads to where nothing may be sent waits, with the reason,
// and goes out once the provider leads elsewhere.
func TestMailsWaitForDenied(t *testing.T) {
	s := start(t, config(t))
	server := inbox(t, "p1")
	w := s.wires(http1)[0]
	guard := s.Providers.Egress
	s.Providers.Egress = nil // as if the target had been denied only since
	hook := fmt.Sprint(ask(t, w, "AddEmailProviderHTTP", `{"endpoint":"http://169.254.169.254/"}`).fields.at("id"))
	smtp := s.addProvider(t, "169.254.169.254:25", "p1")
	s.Providers.Egress = guard
	var waiting []string
	for _, id := range []string{hook, smtp} {
		if a := ask(t, w, "ActivateEmailProvider", fmt.Sprintf(`{"id":%q}`, id)); a.code != 0 {
			t.Fatal(a)
		}
		mail := fmt.Sprint(ask(t, w, "SendMessage", `{"to":["r@example.com"],"subject":"s","text":"t"}`).fields.at("id"))
		waiting = append(waiting, mail)
		get := func() fields {
			return ask(t, w, "GetMessage", fmt.Sprintf(`{"id":%q}`, mail)).fields
		}
		eventually(t, soon, "an attempt", func() bool { return strings.Contains(fmt.Sprint(get()), egress.ErrDenied.Error()) })
		if state := get().at("message", "state"); state != "MESSAGE_STATE_QUEUED" {
			t.Errorf("%v", get())
		}
	}
	if a := ask(t, w, "UpdateEmailProviderSMTP", fmt.Sprintf(
		`{"id":%q,"senderAddress":"sender@example.com","senderName":"Sender","host":%q,"user":"mailkeep","password":"p1"}`, smtp, server.Addr())); a.code != 0 {
		t.Fatal(a)
	}
	for _, mail := range waiting { // else they wait for their next attempts
		if a := ask(t, w, "RetryMessage", fmt.Sprintf(`{"id":%q}`, mail)); a.code != 0 {
			t.Fatal(a)
		}
	}
	if _, err := server.Wait(t.Context(), len(waiting)); err != nil {
		t.Fatal(err)
	}
}
