package emailprovider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

func values(p string, changes ...func(*emailprovider.VerifyValues)) *emailprovider.VerifyValues {
	in := &emailprovider.VerifyValues{Host: "mail.example.com:587", TLS: true, User: "user", Password: secret.New(p)}
	for _, change := range changes {
		change(in)
	}
	return in
}

// TestVerify is what a server is asked about, of stored settings and of others.
func TestVerify(t *testing.T) {
	type v = emailprovider.VerifyValues
	noUser := func(in *v) { in.User = "" }
	host := func(h string) func(*v) { return func(in *v) { in.Host = h } }
	sender := func(s string) func(*v) { return func(in *v) { in.SenderAddress = s } }
	noTLS := func(in *v) { in.TLS = false }
	const rcpt = "r@example.com"
	w := newWorld(t, emailprovider.Strict, "example.com")
	ids := map[string]string{
		"plain": w.add(smtp(password("st0red"))).ID, "xoauth2": w.add(smtp(xoauth2("st0red"))).ID, "none": w.add(smtp(none)).ID,
	}
	for _, c := range []struct {
		name      string
		id        string // empty for VerifyNew
		in        *v
		recipient string
		want      string // sender, user, auth and secret
		kind      fault.Kind
		fault     string
	}{
		{"stored", "plain", nil, "", "sender@example.com user 1 st0red", 0, ""},
		{"stored, recipient", "plain", nil, rcpt, "sender@example.com user 1 st0red", 0, ""},
		{"stored xoauth2", "xoauth2", nil, "", "sender@example.com user 2 st0red", 0, ""},
		{"stored none", "none", nil, "", "sender@example.com user 0 ", 0, ""},
		{"stored password", "plain", values(""), rcpt, "sender@example.com user 1 st0red", 0, ""},
		{"stored client secret", "xoauth2", values(""), "", "sender@example.com user 2 st0red", 0, ""},
		{"nothing is stored", "none", values(""), "", "sender@example.com user 0 ", 0, ""},
		{"stored, another sender", "plain", values("", sender(" b@example.com ")), rcpt, "b@example.com user 1 st0red", 0, ""},
		{"stored, padded host", "plain", values("", host(" MAIL.example.com:587 ")), "", "sender@example.com user 1 st0red", 0, ""},
		{"own password", "plain", values("own", host("h:25"), noTLS), "", "sender@example.com user 1 own", 0, ""},
		{"own password, stored xoauth2", "xoauth2", values("own"), "", "sender@example.com user 1 own", 0, ""},
		{"stored secret, other host", "plain", values("", host("h:587")), "", "", fault.FailedPrecondition, "MAILKEEP-BIND"},
		{"stored secret, other port", "plain", values("", host("mail.example.com:25")), "", "", fault.FailedPrecondition, "MAILKEEP-BIND"},
		{"stored secret, other user", "plain", values("", func(in *v) { in.User = "u2" }), "", "", fault.FailedPrecondition, "MAILKEEP-BIND"},
		{"stored secret, no user", "plain", values("", noUser), "", "", fault.FailedPrecondition, "MAILKEEP-BIND"},
		{"stored secret, no tls", "plain", values("", noTLS), "", "", fault.FailedPrecondition, "MAILKEEP-BIND"},
		{"stored client secret, other host", "xoauth2", values("", host("h:587")), "", "", fault.FailedPrecondition, "MAILKEEP-BIND"},

		{"new", "", values("own"), "", " user 1 own", 0, ""},
		{"new, recipient", "", values("own", sender("b@example.com")), rcpt, "b@example.com user 1 own", 0, ""},
		{"new, no login", "", values("", noUser), "", "  0 ", 0, ""},
		{"new, no password", "", values(""), "", "", fault.InvalidArgument, "MAILKEEP-VALUE password"},
		{"new, recipient without sender", "", values("own"), rcpt, "", fault.InvalidArgument, "MAILKEEP-VALUE sender_address"},

		{"bad host", "plain", values("own", host("h")), "", "", fault.InvalidArgument, "MAILKEEP-VALUE host"},
		{"bad host, new", "", values("own", host("smtp://h:25")), "", "", fault.InvalidArgument, "MAILKEEP-VALUE host"},
		{"bad user", "", values("own", func(in *v) { in.User = "a\r\nb" }), "", "", fault.InvalidArgument, "MAILKEEP-VALUE user"},
		{"bad password", "", values("st0red\n"), "", "", fault.InvalidArgument, "MAILKEEP-VALUE password"},
		{"bad sender", "plain", values("own", sender("a")), "", "", fault.InvalidArgument, "MAILKEEP-VALUE sender_address"},
		{"foreign sender", "plain", values("own", sender("a@evil.org")), "", "", fault.InvalidArgument, "INST-xtWIiR2ZbR sender_address"},
		{"bad recipient", "plain", nil, "a@b.c>\r\n", "", fault.InvalidArgument, "MAILKEEP-VALUE recipient"},
		{"bad recipient, new", "", values("own"), "a", "", fault.InvalidArgument, "MAILKEEP-VALUE recipient"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.mailer.asked = nil
			var toldRecipient string
			w.mailer.answer = func(_ emailprovider.Route, recipient string) *emailprovider.DeliveryError {
				toldRecipient = recipient
				return wrong
			}
			var report emailprovider.Report
			var err error
			if c.id == "" {
				report, err = w.VerifyNew(t.Context(), by, *c.in, c.recipient)
			} else {
				report, err = w.VerifyStored(t.Context(), by, ids[c.id], c.in, c.recipient)
			}
			if c.fault != "" {
				id, field, _ := strings.Cut(c.fault, " ")
				wantFault(t, err, c.kind, id)
				if !strings.Contains(err.Error(), field+" ") || strings.Contains(err.Error(), "st0red") {
					t.Errorf("%v, want %s named", err, field)
				}
				if len(w.mailer.asked) != 0 {
					t.Error("the server was asked")
				}
				return
			}
			if err != nil || report.Failed != wrong || len(w.mailer.asked) != 1 {
				t.Fatalf("%v, report %+v", err, report)
			}
			via := w.mailer.asked[0]
			got := fmt.Sprint(via.SMTP.SenderAddress, " ", via.SMTP.User, " ", int(via.SMTP.Auth), " ", via.Secret.Reveal())
			if got != c.want || toldRecipient != c.recipient {
				t.Errorf("asked about %q and recipient %q, want %q", got, toldRecipient, c.want)
			}
			if stored := via.Secret.Reveal() == "st0red"; stored != (via.CredentialVersion != 0) || stored && via.ProviderID != ids[c.id] {
				t.Errorf("the route says provider %q, version %d", via.ProviderID, via.CredentialVersion)
			}
		})
	}
	if n := len(w.events("")); n != 3 {
		t.Errorf("%d events, want the additions only", n)
	}
}
