package main

import (
	"strings"
	"testing"
)

// TestProviderTrust: with an authority of its own that is not the server's a provider fails, and without it works.
func TestProviderTrust(t *testing.T) {
	s := startService(t, nil)
	s.mail.SetPassword("user", "p")
	added := s.run(t, "p", "provider", "add-smtp", "--sender-address", "a@example.com", "--sender-name", "A", "--host", s.mail.Addr(), "--user", "user", "--password-stdin")
	id := strings.TrimPrefix(strings.SplitN(added.out, "\n", 2)[0], "id: ")
	other := startService(t, nil)
	theirs, ours := writeFile(t, "theirs.pem", other.mail.CA().PEM()), writeFile(t, "ours.pem", s.mail.CA().PEM())
	for _, c := range []struct {
		flags  string
		shows  int // lines
		passes bool
	}{
		{"", 1, true}, {"--only " + theirs, 2, false}, {"", 2, false}, {"--only " + ours, 2, true}, {"--none", 1, true}, {"", 1, true},
	} {
		got := s.run(t, "", append([]string{"provider", "trust", id}, strings.Fields(c.flags)...)...)
		if got.status != 0 || strings.Count(got.out, "\n") != c.shows || c.shows == 2 && !strings.Contains(got.out, "smtptest CA") {
			t.Errorf("trust %s: %+v", c.flags, got)
		}
		if test := s.run(t, "", "provider", "test", id, "--to", "b@example.com"); (test.status == 0) != c.passes {
			t.Errorf("test after %q: %+v", c.flags, test)
		}
	}
	for flags, want := range map[string]string{
		"--only " + ours + " --none":                        "can't both be",
		"--only missing.pem":                                "--only: ",
		"--only " + writeFile(t, "empty", nil):              "is empty",
		"--only " + writeFile(t, "bad", []byte("nonsense")): "ca_pem has something other",
	} {
		if got := s.run(t, "", append([]string{"provider", "trust", id}, strings.Fields(flags)...)...); got.status == 0 || !strings.Contains(got.err, want) {
			t.Errorf("trust %s: %+v", flags, got)
		}
	}
}

func TestEgressAllow(t *testing.T) {
	for target, want := range map[string]string{
		"169.254.169.254": "--egress-allow: \"169.254.169.254\" is never allowed",
		"10.1.2.3/8":      "--egress-allow: \"10.1.2.3/8\" has bits set beyond its network, which is 10.0.0.0/8",
		"mail:0":          "--egress-allow: \"mail:0\" does not end in a port",
	} {
		if got := runWith(t, "", "serve", "--data-dir", t.TempDir(), "--egress-allow", "mail.internal:25", "--egress-allow", target); got.status == 0 || !strings.Contains(got.err, want) {
			t.Errorf("%s: %+v", target, got)
		}
	}
	c := serveCommand{EgressAllow: []string{"mail.internal:587", "10.1.0.0/16", "[fd00::1]:25"}}
	if all, err := c.egressAllow(); err != nil || len(all) != 3 {
		t.Errorf("%v, %v", all, err)
	}
}
