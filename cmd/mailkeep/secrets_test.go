package main

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
)

// The mail server knows the password byte for byte, so it takes nothing else.
func TestPasswordsArriveAsTheyAre(t *testing.T) {
	s := startService(t, nil)
	id := s.add(t, "first")
	for _, test := range []struct{ stdin, password string }{
		{"plain", "plain"},
		{"plain\n", "plain"},
		{"plain\r\n", "plain"},
		{"  two  spaces  \n", "  two  spaces  "},
		{"\ttab\t", "\ttab\t"},
		{"pässwörd-密码-😀\u0301\n", "pässwörd-密码-😀\u0301"},
		{`"quotes" \n %s ${x} $(x)`, `"quotes" \n %s ${x} $(x)`},
		{strings.Repeat("long", 1000), strings.Repeat("long", 1000)},
	} {
		s.mail.SetPassword("user", test.password)
		if got := s.run(t, test.stdin, "provider", "set-password", id); got.status != 0 {
			t.Errorf("set-password with %q: %s", test.stdin, got.err)
		}
		if got := s.run(t, "", "provider", "test", id, "--to", "you@example.com"); got.status != 0 {
			t.Errorf("test mail after %q: %s", test.stdin, got.err)
		}
		if got := s.run(t, test.stdin, "provider", "update", id, "--password-stdin"); got.status != 0 {
			t.Errorf("update with %q: %s", test.stdin, got.err)
		}
		if got := s.run(t, "", "provider", "test", s.add(t, test.stdin), "--to", "you@example.com"); got.status != 0 {
			t.Errorf("test mail after add-smtp with %q: %s", test.stdin, got.err)
		}
	}
	for _, attempt := range s.mail.Attempts() {
		if !attempt.OK {
			t.Errorf("the mail server refused %+v", attempt)
		}
	}
	// Only one newline is cut; the rest is refused by the service.
	if got := s.run(t, "x\n\n", "provider", "set-password", id); got.status != 1 || !strings.Contains(got.err, "CR or LF") {
		t.Errorf("%+v", got)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	const canary = "c4n4ry~Üser pass/w0rd?x=1&y"
	token := "c4n4ry-token-" + strings.Repeat("x", 32)
	s := startService(t, func(c *app.Config) { c.KeepPrevious = time.Hour })
	var shown strings.Builder
	show := func(stdin string, args ...string) result {
		got := s.run(t, stdin, args...)
		shown.WriteString(got.out + got.err)
		return got
	}
	add := []string{"provider", "add-smtp", "--host", s.mail.Addr(), "--sender-address", "a@example.com", "--sender-name", "A"}
	plain := idPattern.FindString(show(canary, append(add, "--user", "user", "--password-stdin")...).out)
	oauth := idPattern.FindString(show(canary, append(add, "--auth", "xoauth2", "--token-endpoint", "https://127.0.0.1:1",
		"--client-id", "x", "--client-secret-stdin")...).out)
	tokenFile := writeFile(t, "token", []byte(token))
	for _, id := range []string{plain, oauth, "123456789012345678"} {
		for _, mode := range [][]string{nil, {"--json"}, {"--token-file", tokenFile}, {"--url", "http://127.0.0.1:1"}, {"--timeout", "1ns"}} {
			show(canary, append([]string{"provider", "set-password", id}, mode...)...)
			show(canary, append([]string{"provider", "update", id, "--password-stdin"}, mode...)...)
			show(canary, append([]string{"provider", "update", id, "--client-secret-stdin"}, mode...)...)
			for _, verify := range []string{"enforce", "warn", "off"} {
				show(canary+verify, append([]string{"provider", "rotate", id, "--verify", verify}, mode...)...)
				show("", append([]string{"provider", "rollback", id, "--verify", verify}, mode...)...)
			}
			show(canary, append([]string{"provider", "verify", id, "--password-stdin"}, mode...)...)
			show(canary, append([]string{"provider", "verify", "--host", s.mail.Addr(), "--user", "user", "--password-stdin"}, mode...)...)
			show("", append([]string{"provider", "status", id}, mode...)...)
			show("", append([]string{"provider", "events", id}, mode...)...)
			show(canary+"\n\n", append([]string{"provider", "set-password", id}, mode...)...)
			show("", append([]string{"provider", "update", id, "--host", "localhost:1"}, mode...)...)
			show("", append([]string{"provider", "test", id, "--to", "you@example.com"}, mode...)...)
			show("", append([]string{"provider", "get", id}, mode...)...)
			show("", append([]string{"provider", "list"}, mode...)...)
			show("", append([]string{"token", "list"}, mode...)...)
		}
	}
	show(canary+"\xff", "provider", "set-password", plain)
	t.Setenv("MAILKEEP_TOKEN", token+" ")
	show("", "provider", "list")

	admin, err := readToken(filepath.Join(s.dir, app.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{plain, "AUTH-7fs1e", "FAILED  auth", "535 5.7.8", "provider.password_rolled_back", "although the verification failed"} {
		if !strings.Contains(shown.String(), want) {
			t.Fatalf("the commands did not run: nothing like %q is shown", want)
		}
	}
	for _, hidden := range []string{canary, token, admin.Reveal()} {
		for _, form := range forms(hidden) {
			if strings.Contains(shown.String(), form) {
				t.Errorf("%q is shown", form)
			}
		}
	}
}

// forms are the ways in which a secret may be shown, whole or in part.
func forms(s string) []string {
	middle := base64.StdEncoding.EncodeToString([]byte(s))
	return []string{s, s[len(s)/2:], hex.EncodeToString([]byte(s)), url.QueryEscape(s), middle, middle[4 : len(middle)-4]}
}

// Only the answer of create has the token; what people read beside it does not.
func TestTokenIsAloneOnStandardOutput(t *testing.T) {
	s := startService(t, nil)
	got := s.run(t, "", "token", "create", "x", "--role", "IAM_OWNER")
	token := strings.TrimSuffix(got.out, "\n")
	if !tokenPattern.MatchString(token) || strings.ContainsAny(token, " \n") || strings.Contains(got.err, token) {
		t.Errorf("%+v", got)
	}
	t.Setenv("MAILKEEP_TOKEN", token)
	if got := s.run(t, "", "token", "list"); got.status != 0 {
		t.Error(got.err)
	}
	got = s.run(t, "", "token", "create", "x", "--role", "IAM_OWNER", "--json")
	if got.err != "" || !strings.Contains(got.out, `"secret": "mailkeep_`) {
		t.Errorf("%+v", got)
	}
}
