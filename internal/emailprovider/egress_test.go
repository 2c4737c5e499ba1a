package emailprovider_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// denying denies addresses.
type denying struct {
	denied []string
	asked  []string
}

func (d *denying) Denies(_ context.Context, address string) bool {
	d.asked = append(d.asked, address)
	return slices.Contains(d.denied, address)
}

// TestEgress: each setting that names a host is refused by its name, wherever it is given, before
// anything is stored or anybody is asked.
func TestEgress(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	guard := &denying{denied: []string{"10.0.0.1:25", "10.0.0.1:443", "10.0.0.1:80", "[fd00::1]:8443"}}
	w.Egress = guard
	p := w.add(smtp(password("p")))
	x := w.add(smtp(xoauth2("s")))
	hook, _, err := w.AddHTTP(t.Context(), by, emailprovider.HTTPSettings{Endpoint: "https://hooks.example.com/"})
	if err != nil {
		t.Fatal(err)
	}
	before := len(w.events(p.ID)) + len(w.events(hook.ID))
	host := smtp(password("p"))
	host.Host = "10.0.0.1:25"
	token := smtp(xoauth2("s"))
	token.Auth.XOAuth2.TokenEndpoint = "https://10.0.0.1/token"
	values := emailprovider.VerifyValues{Host: host.Host, TLS: true}
	ctx := t.Context()
	for name, c := range map[string]struct {
		setting string
		try     func() error
	}{
		"add host":      {"host", func() error { _, err := w.AddSMTP(ctx, by, host); return err }},
		"add token":     {"token_endpoint", func() error { _, err := w.AddSMTP(ctx, by, token); return err }},
		"update host":   {"host", func() error { _, err := w.UpdateSMTP(ctx, by, p.ID, host); return err }},
		"update token":  {"token_endpoint", func() error { _, err := w.UpdateSMTP(ctx, by, x.ID, token); return err }},
		"test host":     {"host", func() error { return w.TestValues(ctx, by, "", host, "r@example.com") }},
		"test token":    {"token_endpoint", func() error { return w.TestValues(ctx, by, "", token, "r@example.com") }},
		"test id":       {"host", func() error { return w.TestValues(ctx, by, p.ID, host, "r@example.com") }},
		"verify new":    {"host", func() error { _, err := w.VerifyNew(ctx, by, values, ""); return err }},
		"verify stored": {"host", func() error { _, err := w.VerifyStored(ctx, by, p.ID, &values, ""); return err }},
		"add http":      {"endpoint", func() error { return addHTTP(w, "http://10.0.0.1") }},
		"add https":     {"endpoint", func() error { return addHTTP(w, "https://10.0.0.1/x") }},
		"add port":      {"endpoint", func() error { return addHTTP(w, "https://[fd00::1]:8443/x") }},
		"update http": {"endpoint", func() error {
			_, _, err := w.UpdateHTTP(ctx, by, hook.ID, emailprovider.HTTPSettings{Endpoint: "http://10.0.0.1/"})
			return err
		}},
	} {
		err := c.try()
		if name == "verify stored" {
			values.Password = secret.New("p") // else the binding refuses it first
			err = c.try()
		}
		wantFault(t, err, fault.FailedPrecondition, "MAILKEEP-EGRESS")
		if err != nil && !strings.HasPrefix(err.Error(), c.setting+" ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.mailer.routes)+len(w.mailer.asked) != 0 || len(w.events(p.ID))+len(w.events(hook.ID)) != before {
		t.Error("asked, or stored")
	}
	// What was stored before it was denied is not tried either.
	guard.denied = append(guard.denied, "mail.example.com:587")
	wantFault(t, w.TestStored(ctx, by, p.ID, "r@example.com"), fault.FailedPrecondition, "MAILKEEP-EGRESS")
	_, err = w.VerifyStored(ctx, by, p.ID, nil, "")
	wantFault(t, err, fault.FailedPrecondition, "MAILKEEP-EGRESS")
	// A password is changed without asking where its server is.
	guard.asked = nil
	if _, err := w.SetPassword(ctx, by, p.ID, secret.New("q")); err != nil || len(guard.asked) != 0 {
		t.Errorf("%v, asked for %v", err, guard.asked)
	}
}

func addHTTP(w *world, endpoint string) error {
	_, _, err := w.AddHTTP(w.t.Context(), by, emailprovider.HTTPSettings{Endpoint: endpoint})
	return err
}
