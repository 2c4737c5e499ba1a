package main

import (
	"io"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/auth/oidc"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// trustOf returns whose tokens serve takes with such arguments.
func trustOf(t *testing.T, args ...string) (oidc.Config, error) {
	t.Helper()
	var c commands
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"serve"}, args...)); err != nil {
		t.Fatal(err)
	}
	config, err := c.Serve.config(io.Discard)
	return config.OIDC, err
}

// TestTrust is how settings say whose tokens are taken.
func TestTrust(t *testing.T) {
	want := oidc.Config{
		Issuer: "https://issuer.example.com", Audience: "api", RoleClaim: "realm_access.roles",
		Roles: map[string]string{"admin": "IAM_OWNER", "a:b/c": "MESSAGE_SENDER"},
		Introspection: oidc.Introspection{
			URL: "https://issuer.example.com/introspect", ClientID: "c", Secret: secret.New("s3cret"), JWT: true,
		},
	}
	check := func(got oidc.Config, err error) {
		t.Helper()
		equal := cmp.Comparer(func(a, b secret.Text) bool { return a.Reveal() == b.Reveal() })
		if diff := cmp.Diff(want, got, equal); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	file := writeFile(t, "secret", []byte("s3cret\n"))
	check(trustOf(t, "--oidc-issuer", want.Issuer, "--oidc-audience", "api", "--oidc-role-claim", want.RoleClaim,
		"--oidc-role", "admin=IAM_OWNER", "--oidc-role", "a:b/c=MESSAGE_SENDER", "--oidc-introspect-jwt",
		"--introspection-url", want.Introspection.URL, "--introspection-client-id", "c", "--introspection-client-secret-file", file))

	for args, text := range map[string]string{
		"--oidc-issuer https://x": "--oidc-audience must be given with --oidc-issuer",
		"--oidc-issuer https://x --oidc-audience a --oidc-role-claim r --oidc-role x=KING": `--oidc-role: "x=KING" is not of the form value=ROLE`,
		"--introspection-url https://x --introspection-client-id c":                        "a secret from --introspection-client-secret-file",
		"--introspection-client-secret-file /nowhere":                                      "--introspection-client-secret-file: open /nowhere",
	} {
		if _, err := trustOf(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %s", args, err, text)
		}
	}

	for name, value := range map[string]string{
		"OIDC_ISSUER": want.Issuer, "OIDC_AUDIENCE": "api", "OIDC_ROLE_CLAIM": want.RoleClaim,
		"OIDC_ROLE": "admin=IAM_OWNER,a:b/c=MESSAGE_SENDER", "OIDC_INTROSPECT_JWT": "true",
		"INTROSPECTION_URL": want.Introspection.URL, "INTROSPECTION_CLIENT_ID": "c", "INTROSPECTION_CLIENT_SECRET": "s3cret",
	} {
		t.Setenv("MAILKEEP_"+name, value)
	}
	check(trustOf(t))
}
