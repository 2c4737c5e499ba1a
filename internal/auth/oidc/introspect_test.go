package oidc_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth/oidc"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// opaqueOnly trusts by introspection alone.
func opaqueOnly(in oidc.Introspection) oidc.Config {
	return oidc.Config{
		Introspection: in, Audience: audience, RoleClaim: "realm_access.roles", Roles: map[string]string{"mail-admin": "IAM_OWNER"},
	}
}

// TestIntrospection shows opaque tokens to the service.
func TestIntrospection(t *testing.T) {
	issuer := startIssuer(t)
	w := start(t, issuer, opaqueOnly(introspection(issuer)))
	for name, c := range map[string]struct {
		more map[string]any
		want fault.Kind
	}{
		"good":            {nil, good},
		"bearer":          {map[string]any{"token_type": "bearer"}, good},
		"no exp":          {map[string]any{"exp": nil}, good},
		"a client":        {map[string]any{"sub": nil, "client_id": "backend"}, good},
		"expired":         {map[string]any{"exp": time.Now().Add(-2 * time.Minute).Unix()}, fault.Unauthenticated},
		"not yet valid":   {map[string]any{"nbf": time.Now().Add(2 * time.Minute).Unix()}, fault.Unauthenticated},
		"a refresh token": {map[string]any{"token_type": "refresh_token"}, fault.Unauthenticated},
		"wrong aud":       {map[string]any{"aud": "other"}, fault.Unauthenticated},
		"no aud":          {map[string]any{"aud": nil}, fault.Unauthenticated},
		"nobody":          {map[string]any{"sub": nil}, fault.Unauthenticated},
		"bound to a key":  {map[string]any{"cnf": map[string]any{"jkt": "x"}}, fault.Unauthenticated},
		"not active":      {map[string]any{"active": false}, fault.Unauthenticated},
		"says nothing":    {map[string]any{"active": nil}, fault.Unavailable},
		"active, it says": {map[string]any{"active": "true"}, fault.Unavailable},
	} {
		w.want(name, w.Opaque(w.with(c.more)), c.want)
	}
	caller, err := w.verify(w.Opaque(w.with(nil)))
	if err != nil || caller.Name != issuer.URL+"|subject-1" || !caller.May("iam.write") || caller.Instance != instance || caller.TokenID != "" {
		t.Errorf("%+v %v", caller, err)
	}
	before := w.Counts().Introspection
	w.want("made up", "made-up", fault.Unauthenticated)
	w.want("too long", strings.Repeat("x", 8193), fault.Unauthenticated)
	w.want("our own prefix", "mailkeep_x.y", fault.Unauthenticated)
	w.want("controls", "x\x01", fault.Unauthenticated)
	if n := w.Counts().Introspection - before; n != 1 {
		t.Errorf("%d questions", n)
	}
}

func (w *world) with(more map[string]any) map[string]any {
	all := w.Claims(audience, ownerClaims)
	for name, value := range more {
		all[name] = value
	}
	return all
}

// TestIntrospectionFailures wants no token taken when nobody can say whether it is good, and says nothing
// of the secret.
func TestIntrospectionFailures(t *testing.T) {
	issuer := startIssuer(t)
	elsewhere := false
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere = true }))
	defer target.Close()
	for name, handler := range map[string]http.HandlerFunc{
		"echo": func(w http.ResponseWriter, r *http.Request) {
			_, secret, _ := r.BasicAuth()
			http.Error(w, secret+r.FormValue("token"), http.StatusBadRequest)
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		},
		"not JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`active`)) },
		"a list":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[{"active":true}]`)) },
		"ACTIVE":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"ACTIVE":true,"sub":"x"}`)) },
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"active":true,"sub":"x","x":"`))
			for _, err := w.Write(make([]byte, 1024)); err == nil; _, err = w.Write([]byte(strings.Repeat("x", 32<<10))) {
			}
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		endpoint := httptest.NewServer(handler)
		in := introspection(issuer)
		in.URL = endpoint.URL
		w := start(t, issuer, opaqueOnly(in))
		_, err := w.verify("opaque-t0ken")
		if kindOf(t, err) != fault.Unavailable || strings.Contains(err.Error(), clientSecret) || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%s: %v", name, err)
		}
		endpoint.Close()
	}
	if elsewhere {
		t.Error("a redirect was followed")
	}
	in := introspection(issuer)
	in.Secret = secret.New("wrong")
	w := start(t, issuer, opaqueOnly(in))
	w.want("a wrong secret", w.Opaque(w.with(nil)), fault.Unavailable)
}

// TestRevocation revokes tokens while they are used, and counts calls that began after that and were let
// in: of opaque tokens, and of JWTs that are introspected too. The red control remembers for 5 ms.
func TestRevocation(t *testing.T) {
	issuer := startIssuer(t)
	config := config(issuer)
	config.Introspection = introspection(issuer)
	config.Introspection.JWT = true
	w := start(t, issuer, config).ready()
	claims := w.with(nil)
	const rounds = 10
	stale := 0
	for range rounds {
		stale += w.revokeUnderLoad(w.Opaque(claims), w.admits)
		stale += w.revokeUnderLoad(w.JWT(claims), w.admits)
	}
	if stale != 0 {
		t.Errorf("%d calls with a revoked token were let in", stale)
	}
	red := 0
	for range rounds {
		red += w.revokeUnderLoad(w.Opaque(claims), remembering(w.admits, 5*time.Millisecond))
	}
	if red == 0 {
		t.Error("the red control is not caught")
	}
	t.Logf("REL oidc_revocation revoked=%d stale=%d red=%d", 2*rounds, stale, red)
}

func (w *world) admits(token string) bool { return w.kind(token) == good }

// revokeUnderLoad returns how many calls were let in that began after the token was revoked.
func (w *world) revokeUnderLoad(token string, admits func(string) bool) (stale int) {
	var revoked atomic.Bool
	var late, before, staleCalls atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for late.Load() < 20 {
				after := revoked.Load()
				admitted := admits(token)
				switch {
				case after:
					late.Add(1)
					if admitted {
						staleCalls.Add(1)
					}
				case admitted:
					before.Add(1)
				}
			}
		})
	}
	w.waitFor(func() bool { return before.Load() > 4 })
	w.Revoke(token)
	revoked.Store(true)
	callers.Wait()
	return int(staleCalls.Load())
}

// remembering is what a cache of answers does.
func remembering(admits func(string) bool, ttl time.Duration) func(string) bool {
	var mu sync.Mutex
	var until time.Time
	return func(token string) bool {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().Before(until) {
			return true
		}
		ok := admits(token)
		if ok {
			until = time.Now().Add(ttl)
		}
		return ok
	}
}

// TestJWTWithoutIntrospection is what holds for a JWT otherwise: it is good until it expires.
func TestJWTWithoutIntrospection(t *testing.T) {
	issuer := startIssuer(t)
	config := config(issuer)
	config.Introspection = introspection(issuer)
	w := start(t, issuer, config).ready()
	token := w.JWT(w.with(nil))
	w.Revoke(token)
	w.want("a JWT", token, good)
	opaque := w.Opaque(w.with(nil))
	w.want("an opaque token", opaque, good)
	w.Revoke(opaque)
	w.want("a revoked one", opaque, fault.Unauthenticated)
}
