package oidc_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/auth/oidc"
	"github.com/mailkeep/mailkeep/internal/auth/oidctest"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/racetest"
)

// wrong returns the names of the tokens that are answered otherwise than they should be.
func wrong(cases []oidctest.Case, verify func(token string) error) (names []string) {
	for _, c := range cases {
		if err := verify(c.Token); (err == nil) != c.Good {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

// TestTokens shows tokens to the service, most with one thing wrong.
func TestTokens(t *testing.T) {
	issuer := startIssuer(t)
	w := start(t, issuer, config(issuer)).ready()
	cases := w.Cases(audience, ownerClaims)
	bad, accepted, slowest := 0, 0, time.Duration(0)
	for _, c := range cases {
		kind, took := good, time.Hour
		for range 5 { // the machine has others to serve
			began := time.Now()
			kind = w.kind(c.Token)
			took = min(took, time.Since(began))
		}
		if want := map[bool]fault.Kind{true: good, false: fault.Unauthenticated}[c.Good]; kind != want {
			t.Errorf("%s: %v, want %v", c.Name, kind, want)
		}
		if !c.Good {
			bad++
			if kind == good {
				accepted++
			}
			slowest = max(slowest, took)
		}
	}
	if slowest > racetest.Slower*time.Millisecond {
		t.Errorf("a bad token took %v", slowest)
	}
	fetched := w.Counts()
	if fetched.Elsewhere != 0 || fetched.Keys != 1 {
		t.Errorf("fetched %+v", fetched)
	}
	flawed := redControls(t, issuer)
	caught := 0
	for flaw, names := range flawed {
		found := wrong(cases, flaw.verify)
		if !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(found, name) }) {
			t.Errorf("a verifier that %s is not caught by %v: %v", flaw.name, names, found)
			continue
		}
		caught++
	}
	t.Logf("REL oidc_tokens bad=%d accepted=%d slowest=%v fetches=%d red_caught=%d/%d", bad, accepted, slowest, fetched.Keys-1, caught, len(flawed))
}

// flaw is a way to verify tokens that is wrong.
type flaw struct {
	name   string
	verify func(token string) error
}

// redControls are verifiers with a flaw each, and which tokens it shows by.
func redControls(t *testing.T, issuer oidctest.Control) map[*flaw][]string {
	provider, err := goidc.NewProvider(t.Context(), issuer.URL)
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, c goidc.Config) *flaw {
		v := provider.Verifier(&c)
		return &flaw{name, func(token string) error { _, err := v.Verify(context.Background(), token); return err }}
	}
	return map[*flaw][]string{
		with("does not check aud", goidc.Config{SkipClientIDCheck: true}):                                     {"wrong aud", "no aud"},
		with("does not check iss", goidc.Config{ClientID: audience, SkipIssuerCheck: true}):                   {"wrong iss", "iss and slash"},
		with("does not check exp", goidc.Config{ClientID: audience, SkipExpiryCheck: true}):                   {"expired", "no exp"},
		with("does not check signatures", goidc.Config{ClientID: audience, InsecureSkipSignatureCheck: true}): {"a foreign key", "alg none"},
		with("has no bound of size", goidc.Config{ClientID: audience}):                                        {"9 KiB"},
	}
}

// TestFetches has many tokens that name keys which were made up, and counts what is fetched for them.
func TestFetches(t *testing.T) {
	issuer := startIssuer(t)
	w := start(t, issuer, config(issuer)).ready()
	w.ahead.Add(int64(10 * time.Second)) // so that one fetch is free
	const storm = 100
	var madeUp []string
	for i := range storm {
		f := oidctest.Forgery{Foreign: true, Header: map[string]any{"kid": fmt.Sprint("made-up-", i)}}
		if i%2 == 0 {
			f.KeyID = "ec2"
		}
		madeUp = append(madeUp, w.Forge(f, w.Claims(audience, nil)))
	}
	before := w.Counts().Keys
	for _, token := range madeUp {
		w.want("a made-up kid", token, fault.Unauthenticated)
	}
	fetched := w.Counts().Keys - before
	if fetched != 1 {
		t.Errorf("%d tokens with made-up kids made %d fetches", storm, fetched)
	}
	red := w.fetchesOfNaive(madeUp, 10*fetched)
	if red < 10*fetched {
		t.Errorf("the red control fetches %d times", red)
	}
	t.Logf("REL oidc_fetches tokens=%d fetches=%d red=%d", storm, fetched, red)
}

// fetchesOfNaive returns how often a key set fetches that does so for every name it does not know, until that
// is often enough. What it fetches at the same time for several tokens counts once.
func (w *world) fetchesOfNaive(tokens []string, enough int) (fetches int) {
	naive, before := goidc.NewRemoteKeySet(w.t.Context(), w.URL+"/keys/0"), w.Counts().Keys
	for i := 0; i < 100*len(tokens) && fetches < enough; i++ {
		if _, err := naive.VerifySignature(w.t.Context(), tokens[i%len(tokens)]); err == nil {
			w.t.Error("a made-up key is good")
		}
		fetches = w.Counts().Keys - before
	}
	return fetches
}

// TestRotation has the issuer change its keys.
func TestRotation(t *testing.T) {
	issuer := startIssuer(t)
	w := start(t, issuer, config(issuer)).ready()
	old := w.Forge(oidctest.Forgery{KeyID: "ec2"}, w.Claims(audience, nil))
	w.want("an old key", old, good)
	for _, kind := range []string{oidctest.RSA, oidctest.EC} {
		w.ahead.Add(int64(10 * time.Second))
		w.Rotate(kind)
		w.want("a new key "+kind, w.JWT(w.Claims(audience, nil)), good)
		w.want("an old key", old, good)
	}
	w.Withdraw("ec2")
	w.want("a key that is withdrawn, before that is known", old, good)
	w.ahead.Add(int64(10 * time.Second))
	w.Rotate(oidctest.EC)
	w.want("another new key", w.JWT(w.Claims(audience, nil)), good)
	w.want("a withdrawn key", old, fault.Unauthenticated)
	if !strings.Contains(w.log.String(), "why=\"a key that the issuer does not have\"") {
		t.Errorf("the log does not say why: %s", w.log)
	}
}

// TestIssuerDown starts without the issuer, and goes on without it.
func TestIssuerDown(t *testing.T) {
	issuer := startIssuer(t)
	token, bad := issuer.JWT(issuer.Claims(audience, nil)), issuer.JWT(issuer.Claims("other", nil))
	issuer.SetDown(true)
	w := start(t, issuer, config(issuer))
	w.waitFor(func() bool { return issuer.Counts().Discovery > 0 })
	w.want("a token of an issuer that is down", token, fault.Unavailable)
	w.want("a bad token of an issuer that is down", bad, fault.Unauthenticated)
	issuer.SetDown(false)
	w.waitFor(func() bool { return w.kind(token) == good })
	issuer.SetDown(true)
	w.ahead.Add(int64(10 * time.Second))
	issuer.Rotate(oidctest.RSA)
	w.want("a known key", issuer.Forge(oidctest.Forgery{KeyID: "ec2"}, issuer.Claims(audience, nil)), good)
	unknown := issuer.JWT(issuer.Claims(audience, nil))
	w.want("a new key of an issuer that is down", unknown, fault.Unavailable)
	before := issuer.Counts().Keys
	w.want("a new key of an issuer that is down, again", unknown, fault.Unavailable)
	if n := issuer.Counts().Keys; n != before {
		t.Errorf("an issuer that is down was asked again at once")
	}
}

// TestRemembered wants a token that was verified to cost next to nothing from then on.
func TestRemembered(t *testing.T) {
	issuer := startIssuer(t)
	w := start(t, issuer, config(issuer)).ready()
	header := []string{"Bearer " + w.JWT(w.Claims(audience, ownerClaims))}
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := w.tokens.Authenticate(context.Background(), instance, header); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 1 { // the token as bytes, for its hash
		t.Errorf("%v allocations", allocations)
	}
}

// TestExpiry wants a token that was verified to end when it says.
func TestExpiry(t *testing.T) {
	issuer := startIssuer(t)
	w := start(t, issuer, config(issuer)).ready()
	token := w.JWT(w.Claims(audience, nil))
	w.want("a good token", token, good)
	w.ahead.Add(int64(time.Hour + 30*time.Second))
	w.want("within the skew", token, good)
	w.ahead.Add(int64(time.Minute))
	w.want("after it", token, fault.Unauthenticated)
}

// TestRoles is how claims become roles.
func TestRoles(t *testing.T) {
	const zitadel = "urn:zitadel:iam:org:project:roles"
	issuer := startIssuer(t)
	for name, c := range map[string]struct {
		path   string
		claims map[string]any
		roles  []string
	}{
		"Keycloak":         {"realm_access.roles", ownerClaims, []string{"IAM_OWNER"}},
		"ZITADEL":          {zitadel, map[string]any{zitadel: map[string]any{"mail-admin": map[string]any{"1": "a.b"}, "sender": nil}}, []string{"IAM_OWNER", "MESSAGE_SENDER"}},
		"a list":           {"roles", map[string]any{"roles": []any{"sender", 1, nil, "sender"}}, []string{"MESSAGE_SENDER"}},
		"words":            {"scope", map[string]any{"scope": "openid sender  mail-admin"}, []string{"IAM_OWNER", "MESSAGE_SENDER"}},
		"a URL":            {"https://example.com/roles", map[string]any{"https://example.com/roles": []string{"sender"}}, []string{"MESSAGE_SENDER"}},
		"a URL and more":   {"https://example.com/a.roles", map[string]any{"https://example.com/a": map[string]any{"roles": "sender"}}, []string{"MESSAGE_SENDER"}},
		"our own names":    {"roles", map[string]any{"roles": []string{"IAM_OWNER", "SYSTEM_OWNER"}}, nil},
		"not a whole word": {"roles", map[string]any{"roles": []string{"sender,mail-admin"}}, nil},
		"another claim":    {"roles", ownerClaims, nil},
		"a part of a path": {"realm_access", ownerClaims, nil},
		"a number":         {"roles", map[string]any{"roles": 1}, nil},
		"beyond a path":    {"realm_access.roles.0", ownerClaims, nil},
	} {
		t.Run(name, func(t *testing.T) {
			config := config(issuer)
			config.RoleClaim, config.Roles = c.path, map[string]string{"mail-admin": "IAM_OWNER", "sender": "MESSAGE_SENDER"}
			w := start(t, issuer, config).ready()
			caller, err := w.verify(w.JWT(w.Claims(audience, c.claims)))
			want := auth.Caller{Instance: instance, TokenID: "id-1", Name: issuer.URL + "|subject-1", Roles: c.roles}
			if diff := cmp.Diff(want, caller); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestName wants names that can be shown.
func TestName(t *testing.T) {
	issuer := startIssuer(t)
	w := start(t, issuer, config(issuer)).ready()
	caller, err := w.verify(w.JWT(w.Claims(audience, map[string]any{"sub": "a\nb%ü\u202e", "jti": strings.Repeat("\x1b", 300)})))
	if want := issuer.URL + "|a%0Ab%25%C3%BC%E2%80%AE"; err != nil || caller.Name != want || caller.TokenID != strings.Repeat("%1B", 100) {
		t.Errorf("%+v %v, want %s", caller, err, want)
	}
	if _, err := w.tokens.Authenticate(t.Context(), "another", []string{"Bearer " + w.JWT(w.Claims(audience, nil))}); kindOf(t, err) != fault.Unauthenticated {
		t.Errorf("another instance: %v", err)
	}
}

// TestConfig wants settings refused that can't be meant, by the name of the flag.
func TestConfig(t *testing.T) {
	base := func() oidc.Config { return config(oidctest.Control{URL: "https://issuer.example.com"}) }
	for want, change := range map[string]func(*oidc.Config){
		"--oidc-audience must be given":     func(c *oidc.Config) { c.Audience = "" },
		"--oidc-issuer must be https":       func(c *oidc.Config) { c.Issuer = "http://issuer.example.com" },
		"--oidc-issuer is not a URL":        func(c *oidc.Config) { c.Issuer = "issuer.example.com" },
		"--oidc-issuer is longer":           func(c *oidc.Config) { c.Issuer += strings.Repeat("x", 200) },
		"--introspection-url is missing":    func(c *oidc.Config) { c.Introspection.ClientID = "x" },
		"--introspection-url needs":         func(c *oidc.Config) { c.Introspection.URL = "https://x" },
		"--introspection-url must be https": func(c *oidc.Config) { c.Introspection = introspection(oidctest.Control{URL: "http://x"}) },
		"--oidc-introspect-jwt needs --oidc-issuer": func(c *oidc.Config) {
			c.Introspection = introspection(oidctest.Control{URL: "https://x"})
			c.Issuer, c.Introspection.JWT = "", true
		},
		"--oidc-role-claim and --oidc-role must say": func(c *oidc.Config) { c.RoleClaim = "" },
		`"x=NONE" is not of the form`:                func(c *oidc.Config) { c.Roles["x"] = "NONE" },
		"need --oidc-issuer or":                      func(c *oidc.Config) { c.Issuer = "" },
	} {
		c := base()
		change(&c)
		if _, err := oidc.New(instance, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if trust, err := oidc.New(instance, oidc.Config{RoleClaim: "roles"}); trust != nil || err != nil {
		t.Errorf("nobody to trust: %v %v", trust, err)
	}
}
