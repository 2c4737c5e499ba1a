package delivery_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

type fixedToken string

func (f fixedToken) Token(context.Context, emailprovider.Route) (delivery.Bearer, error) {
	return delivery.Bearer{Token: secret.New(string(f))}, nil
}

// TestMechanisms authenticates with each mechanism as the only one on offer, with a good, an old and
// a wrong password.
func TestMechanisms(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, mechanism := range smtptest.Mechanisms() {
			t.Run(tls.VersionName(version)+"/"+mechanism, func(t *testing.T) {
				s := startServer(t, smtptest.Options{
					Mode: smtptest.ImplicitTLS, MaxVersion: version, Mechanisms: []string{mechanism}, DemandAuth: true,
				})
				s.SetPassword(user, "an old one")
				s.SetPassword(user, password)
				try := func(given string) error {
					via := withPassword(plainRoute(s.Addr()))
					via.SMTP.TLS = true
					via.Secret = secret.New(given)
					if mechanism == "XOAUTH2" {
						via.SMTP.Auth = emailprovider.AuthXOAuth2
					}
					return deliver(t, delivery.Options{Roots: s.CA().Pool(), Tokens: fixedToken(given)}, via)
				}
				if err := try(password); err != nil {
					t.Fatal(err)
				}
				if m := s.Mails()[0]; m.User != user || m.Version != 2 {
					t.Errorf("sent by %q with version %d", m.User, m.Version)
				}
				for i, given := range []string{"an old one", "a wrong one"} {
					e := failed(t, try(given))
					if e.Step != emailprovider.StepAuth || e.Code != 535 || e.Temporary {
						t.Errorf("%+v", e)
					}
					a := s.Attempts()[i+1]
					if a.OK || a.Mechanism != mechanism || a.Version != 1-i {
						t.Errorf("%+v", a)
					}
				}
			})
		}
	}
}

func TestMechanismChoice(t *testing.T) {
	best := []string{"PLAIN", "LOGIN", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "CRAM-MD5"}
	for i := range best {
		offered := slices.Clone(best[i:])
		slices.Reverse(offered)
		s := startServer(t, smtptest.Options{Mode: smtptest.ImplicitTLS, Mechanisms: append(offered, "XOAUTH2")})
		s.SetPassword(user, password)
		via := withPassword(plainRoute(s.Addr()))
		via.SMTP.TLS = true
		if err := deliver(t, delivery.Options{Roots: s.CA().Pool()}, via); err != nil {
			t.Fatal(err)
		}
		if got := s.Attempts()[0].Mechanism; got != best[i] {
			t.Errorf("of %v took %s", offered, got)
		}
	}
}

// TestLongSecret uses passwords around the length that an AUTH command can carry.
func TestLongSecret(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "LOGIN", "XOAUTH2"} {
		for _, n := range []int{1, 300, 340, 341, 342, 343, 344, 345, 346, 400, 4096} {
			s := startServer(t, smtptest.Options{Mechanisms: []string{mechanism}, DemandAuth: true})
			long := strings.Repeat("x", n)
			s.SetPassword(user, long)
			via := withPassword(plainRoute(s.Addr()))
			via.Secret = secret.New(long)
			if mechanism == "XOAUTH2" {
				via.SMTP.Auth = emailprovider.AuthXOAuth2
			}
			if err := deliver(t, delivery.Options{Tokens: fixedToken(long)}, via); err != nil {
				t.Errorf("%s %d: %v", mechanism, n, err)
			}
			h := startHostile(t, smtptest.Script{AuthOffer: mechanism})
			via.SMTP.Host = h.Addr()
			if err := deliver(t, delivery.Options{Tokens: fixedToken(long)}, via); err != nil {
				t.Errorf("%s %d: %v", mechanism, n, err)
			}
			if command := h.Lines()[1]; !strings.HasPrefix(command, "AUTH "+mechanism) || len(command) > 510 {
				t.Errorf("%s %d: a command of %d bytes", mechanism, n, len(command))
			}
		}
	}
}

// TestNoAuth: nothing authenticates that has nothing to authenticate with.
func TestNoAuth(t *testing.T) {
	for name, change := range map[string]func(*emailprovider.Route){
		"none":                    func(r *emailprovider.Route) { r.SMTP.Auth = emailprovider.AuthNone },
		"user without a password": func(r *emailprovider.Route) { r.Secret = secret.Text{} },
	} {
		s := startServer(t, smtptest.Options{})
		via := withPassword(plainRoute(s.Addr()))
		change(&via)
		if err := deliver(t, delivery.Options{Dialer: redirect{s.Addr(), elsewhere}}, via); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.Attempts(); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestAuthRefusedHere walks the failures that are found before the server hears of a credential.
func TestAuthRefusedHere(t *testing.T) {
	change := func(f func(*emailprovider.Route)) emailprovider.Route {
		r := withPassword(plainRoute("relay.example.com:2500"))
		f(&r)
		return r
	}
	for _, c := range []struct {
		name   string
		via    emailprovider.Route
		offer  string
		remote net.Addr
		text   string
		silent bool // not even a connection is used
	}{
		{"no user", change(func(r *emailprovider.Route) { r.SMTP.User = "" }), "PLAIN", nil, "has no user", true},
		{"NUL", change(func(r *emailprovider.Route) { r.Secret = secret.New("a\x00b") }), "PLAIN", nil, "NUL", true},
		{"line break", change(func(r *emailprovider.Route) { r.SMTP.User = "a\r\nQUIT" }), "PLAIN", nil, "line break", true},
		{"plain text", change(func(*emailprovider.Route) {}), "PLAIN", elsewhere, "--plaintext-auth-host", true},
		{"plain text, SCRAM", change(func(*emailprovider.Route) {}), "SCRAM-SHA-256", elsewhere, "--plaintext-auth-host", true},
		{"no mechanism", change(func(*emailprovider.Route) {}), "GSSAPI NTLM", nil, "it offers GSSAPI NTLM", false},
		{"no XOAUTH2", change(func(r *emailprovider.Route) { r.SMTP.Auth = emailprovider.AuthXOAuth2 }), "PLAIN LOGIN", nil,
			"it offers PLAIN LOGIN", false},
		{"PLUS without TLS", change(func(*emailprovider.Route) {}), "SCRAM-SHA-256-PLUS", nil, "it offers SCRAM-SHA-256-PLUS", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := startHostile(t, smtptest.Script{AuthOffer: c.offer})
			e := failed(t, deliver(t, delivery.Options{Dialer: redirect{h.Addr(), c.remote}}, c.via))
			if e.Step != emailprovider.StepAuth || e.Temporary || e.Code != 0 || !strings.Contains(e.Text, c.text) {
				t.Errorf("%+v", e)
			}
			for _, line := range h.Lines() {
				if c.silent || strings.HasPrefix(line, "AUTH") {
					t.Errorf("sent %q", line)
				}
			}
		})
	}
}

// TestPlaintextAuthHosts: where a password may leave in the clear is judged by what is connected to.
func TestPlaintextAuthHosts(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 25} }
	for _, c := range []struct {
		host   string
		remote net.Addr
		listed []string
		sent   bool
	}{
		{"relay.example.com:25", tcp("127.0.0.1"), nil, true},
		{"relay.example.com:25", tcp("::1"), nil, true},
		{"relay.example.com:25", tcp("::ffff:127.0.0.2"), nil, true},
		{"localhost:25", elsewhere, nil, false},
		{"127.0.0.1:25", elsewhere, nil, false},
		{"relay.example.com:25", tcp("10.0.0.1"), nil, false},
		{"relay.example.com:25", tcp("::ffff:10.0.0.1"), nil, false},
		{"relay.example.com:25", &net.UnixAddr{Name: "x", Net: "unix"}, nil, false},
		{"Relay.Example.COM.:25", elsewhere, []string{"relay.example.com"}, true},
		{"[2001:db8::1]:25", elsewhere, []string{"2001:DB8::1"}, true},
		{"evil.relay.example.com:25", elsewhere, []string{"relay.example.com"}, false},
		{"relay.example.com:25", elsewhere, []string{""}, false},
	} {
		s := startServer(t, smtptest.Options{DemandAuth: true})
		s.SetPassword(user, password)
		o := delivery.Options{Dialer: redirect{s.Addr(), c.remote}, PlaintextAuthHosts: c.listed}
		err := deliver(t, o, withPassword(plainRoute(c.host)))
		if (err == nil) != c.sent || (len(s.Attempts()) == 1) != c.sent {
			t.Errorf("%+v: %v, %v", c, err, s.Attempts())
		}
	}
}

// TestEchoedCredentials: a server that repeats what it was sent does not get it into the error.
func TestEchoedCredentials(t *testing.T) {
	blob := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	login := smtptest.Script{AuthOffer: "LOGIN", Answers: map[string]smtptest.Answer{
		smtptest.Auth: smtptest.Say("334 VXNlcm5hbWU6\r\n"),
	}}
	logins := 0
	login.Answers[smtptest.Response] = func(w io.Writer, line string) error {
		if logins++; logins == 1 {
			return smtptest.Say("334 UGFzc3dvcmQ6\r\n")(w, line)
		}
		return smtptest.Echo("535 5.7.8 no: %s\r\n")(w, line)
	}
	for name, script := range map[string]smtptest.Script{
		"no echo":   answers(smtptest.Auth, smtptest.Say("535 5.7.8 no: sorry\r\n")),
		"command":   answers(smtptest.Auth, smtptest.Echo("535 5.7.8 no: %s\r\n")),
		"raw":       answers(smtptest.Auth, smtptest.Say("535 5.7.8 no: user "+user+" password "+password+"\r\n")),
		"folded":    answers(smtptest.Auth, smtptest.Say("535-5.7.8 no: "+blob[:len(blob)-9]+"\r\n535 "+blob[len(blob)-9:]+"\r\n")),
		"truncated": answers(smtptest.Auth, smtptest.Say("535 5.7.8 no: AUTH PLAIN "+blob[:len(blob)-7]+"\r\n")),
		"LOGIN":     login,
	} {
		t.Run(name, func(t *testing.T) {
			h := startHostile(t, script)
			e := failed(t, deliver(t, delivery.Options{}, withPassword(plainRoute(h.Addr()))))
			if e.Step != emailprovider.StepAuth || e.Code != 535 || e.Temporary || !strings.HasPrefix(e.Text, "5.7.8 no: ") {
				t.Errorf("%+v", e)
			}
			if said := strings.Contains(e.Text, "[redacted]"); said == (name == "no echo") {
				t.Errorf("redacted %v: %q", said, e.Text)
			}
			for i := range len(password) - 5 {
				if strings.Contains(e.Text, password[i:i+6]) {
					t.Errorf("a part of the password is in %q", e.Text)
				}
			}
			for i := len(blob) / 2; i < len(blob)-5; i++ {
				if strings.Contains(e.Text, blob[i:i+6]) {
					t.Errorf("a part of the password is in %q", e.Text)
				}
			}
		})
	}
}

// TestHostileSCRAM: a server must keep to the protocol and prove itself.
func TestHostileSCRAM(t *testing.T) {
	nonceOf := func(line string) string {
		first, _ := base64.StdEncoding.DecodeString(line)
		_, nonce, _ := strings.Cut(string(first), ",r=")
		return nonce
	}
	challenge := func(s string) string { return "334 " + base64.StdEncoding.EncodeToString([]byte(s)) + "\r\n" }
	for name, second := range map[string]func(line string) string{
		"no proof":       func(string) string { return "235 welcome\r\n" },
		"iterations":     func(line string) string { return challenge("r=" + nonceOf(line) + "x,s=c2FsdA==,i=2000000000") },
		"no iterations":  func(line string) string { return challenge("r=" + nonceOf(line) + "x,s=c2FsdA==,i=0") },
		"another nonce":  func(string) string { return challenge("r=abc,s=c2FsdA==,i=4096") },
		"early proof":    func(string) string { return challenge("v=abc") },
		"first again":    func(string) string { return challenge("") },
		"not base64":     func(string) string { return "334 ***\r\n" },
		"proof is wrong": nil,
	} {
		t.Run(name, func(t *testing.T) {
			responses := 0
			script := smtptest.Script{AuthOffer: "SCRAM-SHA-256", Answers: map[string]smtptest.Answer{
				smtptest.Auth: smtptest.Say("334 \r\n"),
			}}
			script.Answers[smtptest.Response] = func(w io.Writer, line string) error {
				responses++
				switch {
				case second != nil:
					return smtptest.Say(second(line))(w, line)
				case responses == 1:
					return smtptest.Say(challenge("r="+nonceOf(line)+"x,s=c2FsdA==,i=4096"))(w, line)
				}
				return smtptest.Say(challenge("v=AAAA"))(w, line)
			}
			h := startHostile(t, script)
			e := failed(t, deliver(t, delivery.Options{}, withPassword(plainRoute(h.Addr()))))
			if e.Step != emailprovider.StepAuth || e.Temporary {
				t.Errorf("%+v", e)
			}
			if slices.ContainsFunc(h.Lines(), func(l string) bool { return strings.HasPrefix(l, "MAIL") }) {
				t.Error("went on to send")
			}
		})
	}
}
