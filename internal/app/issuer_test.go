package app_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/auth/oidc"
	"github.com/mailkeep/mailkeep/internal/auth/oidctest"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	oidcClient = "mailkeep"
	oidcSecret = "c4n4ry-of-the-client"
	audience   = "mail-api"
)

// serveIssuer is the issuer's process. It ends with its input.
func serveIssuer() error {
	issuer, err := oidctest.Start("127.0.0.1:0", oidcClient, oidcSecret)
	if err != nil {
		return err
	}
	fmt.Println(issuer.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return issuer.Close()
}

// launchIssuer starts an issuer as a process of its own, and returns how to kill it.
func launchIssuer(t *testing.T) (oidctest.Control, func()) {
	t.Helper()
	cmd := command(t, "issuer")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // ends with this process
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return oidctest.Control{URL: strings.TrimSpace(line)}, kill
}

// trusting is a configuration that takes the issuer's tokens.
func trusting(t *testing.T, issuer oidctest.Control) app.Config {
	c := config(t)
	c.OIDC = oidc.Config{
		Issuer: issuer.URL, Audience: audience, RoleClaim: "urn:zitadel:iam:org:project:roles",
		Roles: map[string]string{"mail-admin": "IAM_OWNER", "mail-reader": "IAM_OWNER_VIEWER"},
		Introspection: oidc.Introspection{
			URL: issuer.URL + "/introspect", ClientID: oidcClient, Secret: secret.New(oidcSecret),
		},
	}
	return c
}

func zitadelRole(name string) map[string]any {
	return map[string]any{"urn:zitadel:iam:org:project:roles": map[string]any{name: map[string]any{"1": "example.com"}}}
}

// TestIssuer takes the tokens of an issuer in another process over every protocol, and no others.
func TestIssuer(t *testing.T) {
	issuer, kill := launchIssuer(t)
	c := trusting(t, issuer)
	var ahead atomic.Int64
	c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s := start(t, c)
	claims := func(role string) map[string]any { return issuer.Claims(audience, zitadelRole(role)) }
	owner, reader, nobody := issuer.JWT(claims("mail-admin")), issuer.JWT(claims("mail-reader")), issuer.JWT(claims("else"))
	list := methods()["ListEmailProviders"]
	request := message(t, string(list.Descriptor.Input().FullName()), "{}")
	call := func(w wire, token string) answer { return w.call(t, token, list, request) }
	rest := s.wires(http1)[0]
	eventually(t, 10*time.Second, "ready for tokens", func() bool { return call(rest, owner).code == 0 })

	wires := append(s.wires(http1), s.wires(http2)...)
	accepted, cells := 0, 0
	for _, token := range issuer.Cases(audience, zitadelRole("mail-admin")) {
		for _, w := range wires {
			want, id := connect.Code(0), ""
			if !token.Good {
				want, id = connect.CodeUnauthenticated, "AUTH-7fs1e"
			}
			a := call(w, token.Token)
			cells++
			if a.code != want || a.id != id {
				t.Errorf("%s over %s: %v, want %v", token.Name, w.name, a, want)
			}
			if !token.Good && a.code == 0 {
				accepted++
			}
		}
	}
	if n := issuer.Counts(); n.Elsewhere != 0 || n.Keys != 1 {
		t.Errorf("fetched %+v", n)
	}
	t.Logf("REL oidc_protocols cells=%d bad_accepted=%d keys_fetched=%d", cells, accepted, issuer.Counts().Keys)

	t.Run("roles", func(t *testing.T) {
		add := methods()["AddEmailProviderHTTP"]
		req := message(t, string(add.Descriptor.Input().FullName()), `{"endpoint":"https://example.com/"}`)
		for _, token := range []string{reader, nobody} {
			if a := rest.call(t, token, add, req); a.code != connect.CodePermissionDenied {
				t.Errorf("%v", a)
			}
		}
		added := rest.call(t, owner, add, req)
		id, _ := added.fields.at("id").(string)
		if a := call(rest, reader); a.code != 0 {
			t.Errorf("a reader reads: %v", a)
		}
		events := s.send(t, s.client(http1), raw{verb: "POST", path: "/v1/providers/" + id + "/events/_search", body: "{}"})
		if !strings.Contains(events.body, `"caller":"`+issuer.URL+`|subject-1"`) || !strings.Contains(events.body, `"tokenId":"id-1"`) {
			t.Errorf("%v, events: %s", added, events.body)
		}
	})
	t.Run("rotation", func(t *testing.T) {
		ahead.Add(int64(10 * time.Second))
		issuer.Rotate(oidctest.EC)
		if a := call(rest, issuer.JWT(claims("mail-admin"))); a.code != 0 {
			t.Errorf("a new key: %v", a)
		}
	})
	t.Run("revocation", func(t *testing.T) {
		opaque := issuer.Opaque(claims("mail-admin"))
		for _, w := range wires {
			if a := call(w, opaque); a.code != 0 {
				t.Errorf("over %s: %v", w.name, a)
			}
		}
		issuer.Revoke(opaque)
		for _, w := range wires {
			if a := call(w, opaque); a.code != connect.CodeUnauthenticated {
				t.Errorf("revoked, over %s: %v", w.name, a)
			}
		}
	})
	opaque := issuer.Opaque(claims("mail-admin"))
	kill()
	t.Run("without the issuer", func(t *testing.T) {
		for token, want := range map[string]connect.Code{owner: 0, adminToken: 0, opaque: connect.CodeUnavailable, "made-up": connect.CodeUnavailable} {
			if a := call(rest, token); a.code != want {
				t.Errorf("%v, want %v", a, want)
			}
		}
		late := start(t, trusting(t, issuer))
		if r := late.send(t, late.client(http1), raw{verb: "GET", path: "/readyz"}); r.status != 200 {
			t.Errorf("not ready: %d %s", r.status, r.body)
		}
		if a := call(late.wires(http1)[0], owner); a.code != connect.CodeUnavailable || a.id != "MAILKEEP-ISSUER" {
			t.Errorf("%v", a)
		}
		eventually(t, 10*time.Second, "warned", func() bool { return strings.Contains(late.log.String(), "the issuer can't be reached") })
	})
	for _, canary := range []string{oidcSecret, owner, opaque} {
		if strings.Contains(s.log.String(), canary) {
			t.Error("a secret is in the log")
		}
	}
}
