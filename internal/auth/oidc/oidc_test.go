package oidc_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/auth/oidc"
	"github.com/mailkeep/mailkeep/internal/auth/oidctest"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	instance     = "tenant"
	audience     = "mailkeep"
	clientID     = "client:mailkeep"
	clientSecret = "c4n4ry+s%cret/="
)

// ownerClaims give IAM_OWNER, as Keycloak has it.
var ownerClaims = map[string]any{"realm_access": map[string]any{"roles": []string{"nothing", "mail-admin"}}}

// world is an issuer and a service that trusts it.
type world struct {
	oidctest.Control
	t      *testing.T
	tokens *auth.Service
	ahead  atomic.Int64 // how far the service's clock is
	log    *bytes.Buffer
	done   chan struct{}
}

// noTokens is a store without any.
type noTokens struct{ auth.Store }

func (noTokens) TokenByHash(context.Context, [32]byte) (auth.Token, error) {
	return auth.Token{}, auth.ErrNotFound
}

func startIssuer(t *testing.T) oidctest.Control {
	t.Helper()
	i, err := oidctest.Start("127.0.0.1:0", clientID, clientSecret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return oidctest.Control{URL: i.URL()}
}

func config(c oidctest.Control) oidc.Config {
	return oidc.Config{
		Issuer: c.URL, Audience: audience, RoleClaim: "realm_access.roles", Roles: map[string]string{"mail-admin": "IAM_OWNER"},
	}
}

func introspection(c oidctest.Control) oidc.Introspection {
	return oidc.Introspection{URL: c.URL + "/introspect", ClientID: clientID, Secret: secret.New(clientSecret)}
}

// start starts a service, and waits for it to know the issuer's keys if it is up.
func start(t *testing.T, c oidctest.Control, config oidc.Config) *world {
	t.Helper()
	w := &world{Control: c, t: t, log: new(bytes.Buffer), done: make(chan struct{})}
	config.Now = func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
	config.Log = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	trust, err := oidc.New(instance, config)
	if err != nil {
		t.Fatal(err)
	}
	w.tokens = auth.NewService(noTokens{}, oidc.Set{instance: trust}, config.Now)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer close(w.done)
		trust.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-w.done
		if bytes.Contains(w.log.Bytes(), []byte("c4n4ry")) {
			t.Error("the client secret is in the log")
		}
	})
	return w
}

// ready waits until tokens of the issuer can be verified.
func (w *world) ready() *world {
	w.t.Helper()
	good := w.JWT(w.Claims(audience, nil))
	w.waitFor(func() bool { _, err := w.verify(good); return err == nil })
	return w
}

func (w *world) waitFor(done func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("waited in vain")
		}
	}
}

func (w *world) verify(token string) (auth.Caller, error) {
	return w.tokens.Authenticate(context.Background(), instance, []string{"Bearer " + token})
}

// kind returns how a token was answered; -1 for a caller.
func (w *world) kind(token string) fault.Kind {
	_, err := w.verify(token)
	return kindOf(w.t, err)
}

const good = fault.Kind(-1)

func kindOf(t *testing.T, err error) fault.Kind {
	t.Helper()
	if err == nil {
		return good
	}
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("not a fault: %v", err)
	}
	return f.Kind
}

func (w *world) want(what, token string, want fault.Kind) {
	w.t.Helper()
	if got := w.kind(token); got != want {
		w.t.Errorf("%s: %v, want %v", what, got, want)
	}
}
