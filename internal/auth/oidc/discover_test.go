package oidc

import (
	"log/slog"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth/oidctest"
)

// TestMovedKeys has the issuer put its keys somewhere else, which it withdraws one of meanwhile.
func TestMovedKeys(t *testing.T) {
	issuer, err := oidctest.Start("127.0.0.1:0", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = issuer.Close() }()
	c := oidctest.Control{URL: issuer.URL()}
	trust, err := New("default", Config{
		Issuer: c.URL, Audience: "api", RoleClaim: "roles", Roles: map[string]string{"x": "IAM_OWNER"},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	update := func() {
		t.Helper()
		if err := trust.update(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	update()
	staying := c.Forge(oidctest.Forgery{KeyID: "rsa1"}, c.Claims("api", nil))
	going := c.Forge(oidctest.Forgery{KeyID: "ec2"}, c.Claims("api", nil))
	for _, token := range []string{staying, going} {
		if _, err := trust.Verify(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	c.Withdraw("ec2")
	c.Move()
	update()
	if _, err := trust.Verify(t.Context(), staying); err != nil {
		t.Error(err)
	}
	if _, err := trust.Verify(t.Context(), going); err == nil {
		t.Error("a withdrawn key is good")
	}
}
