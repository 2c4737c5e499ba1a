package emailprovider_test

import (
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

func newCA(t *testing.T) string {
	t.Helper()
	ca, err := smtptest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	return string(ca.PEM())
}

// TestSetCA: the authorities are in the next route, stay through every other change, and are a change
// with an event.
func TestSetCA(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	ca, other := newCA(t), newCA(t)
	p := w.add(smtp(password("p")))
	set := func(text string) emailprovider.Provider {
		t.Helper()
		p, err := w.SetCA(t.Context(), by, p.ID, text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	stored := set("\n" + ca + "\n\n" + strings.ReplaceAll(other, "\n", "\r\n"))
	if stored.CA != ca+other || w.sends(p.ID).CA != ca+other || stored.Sequence <= p.Sequence {
		t.Errorf("%+v", stored)
	}
	if all := stored.Authorities(); len(all) != 2 || all[0].Subject != "CN=smtptest CA" || all[1].Expires.IsZero() {
		t.Errorf("%+v", all)
	}
	in := smtp(password("q"))
	in.Description, in.Host = "another", "mail2.example.com:465"
	if _, err := w.UpdateSMTP(t.Context(), by, p.ID, in); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetPassword(t.Context(), by, p.ID, secret.New("r")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Activate(t.Context(), by, p.ID); err != nil {
		t.Fatal(err)
	}
	if via := w.sends(p.ID); via.CA != ca+other || via.Secret.Reveal() != "r" {
		t.Error("a change has taken the authorities away")
	}
	if again := set(ca + other); again.Sequence != must(t)(w.Get(t.Context(), by.Instance, p.ID)).Sequence || len(w.events(p.ID)) != 5 {
		t.Error("the same again is a change")
	}
	set("")
	last := w.events(p.ID)[5]
	if w.sends(p.ID).CA != "" || last.Type != emailprovider.EventUpdated || strings.Join(last.Fields, " ") != "ca_pem" {
		t.Errorf("%+v", last)
	}
	_, err := w.SetCA(t.Context(), by, "unknown", ca)
	wantFault(t, err, fault.NotFound, "QUERY-fwofw")
	hook, _, err := w.AddHTTP(t.Context(), by, emailprovider.HTTPSettings{Endpoint: "https://hooks.example.com/"})
	if err != nil {
		t.Fatal(err)
	}
	if hook, err = w.SetCA(t.Context(), by, hook.ID, ca); err != nil || hook.CA != ca {
		t.Errorf("webhook: %v", err)
	}
}

func must(t *testing.T) func(emailprovider.Provider, error) emailprovider.Provider {
	return func(p emailprovider.Provider, err error) emailprovider.Provider {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func TestBadCA(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	ca := newCA(t)
	p := w.add(smtp(password("p")))
	key := "-----BEGIN PRIVATE KEY-----\nc4n4ry==\n-----END PRIVATE KEY-----\n"
	for text, want := range map[string]string{
		"nonsense":                           "something other",
		ca + "nonsense":                      "something other",
		"nonsense\n" + ca:                    "something other",
		key:                                  "something other",
		ca + key:                             "something other",
		ca[:len(ca)-30] + "\n" + ca:          "something other",
		ca[:len(ca)-30]:                      "something other",
		strings.Repeat(ca, 21):               "more than 20",
		strings.Repeat("\n", 32<<10) + ca:    "longer than",
		strings.Replace(ca, "MII", "MAA", 1): "certificate 1 of ca_pem is not one",
	} {
		_, err := w.SetCA(t.Context(), by, p.ID, text)
		wantFault(t, err, fault.InvalidArgument, "MAILKEEP-VALUE")
		if err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "c4n4ry")) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if must(t)(w.Get(t.Context(), by.Instance, p.ID)).CA != "" {
		t.Error("stored")
	}
}

// TestVerifyWithCA: who brings authorities can't have the stored password shown to whom they vouch for.
func TestVerifyWithCA(t *testing.T) {
	w := newWorld(t, emailprovider.Compatible)
	ca, other := newCA(t), newCA(t)
	p := w.add(smtp(password("p")))
	must(t)(w.SetCA(t.Context(), by, p.ID, ca))
	values := emailprovider.VerifyValues{Host: "mail.example.com:587", TLS: true, User: "user"}
	try := func(given, password string) error {
		values.CA, values.Password = given, secret.New(password)
		_, err := w.VerifyStored(t.Context(), by, p.ID, &values, "")
		return err
	}
	wantFault(t, try(other, ""), fault.FailedPrecondition, "MAILKEEP-BIND")
	wantFault(t, try("nonsense", ""), fault.InvalidArgument, "MAILKEEP-VALUE")
	if len(w.mailer.asked) != 0 {
		t.Error("the server was asked")
	}
	for _, c := range []struct{ given, password, ca, secret string }{
		{"", "", ca, "p"}, {ca, "", ca, "p"}, {other, "q", other, "q"},
	} {
		if err := try(c.given, c.password); err != nil {
			t.Fatal(err)
		}
		if via := w.mailer.asked[len(w.mailer.asked)-1]; via.CA != c.ca || via.Secret.Reveal() != c.secret {
			t.Errorf("%+v", c)
		}
	}
	if _, _, err := w.RotatePassword(t.Context(), by, p.ID, emailprovider.Rotation{Password: secret.New("n")}, nil); err != nil {
		t.Fatal(err)
	}
	if via := w.mailer.asked[len(w.mailer.asked)-1]; via.CA != ca {
		t.Error("a rotation is verified without the authorities")
	}
}
