package delivery_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const tried = "rcpt@example.org"

// verify verifies, and checks what holds of every report.
func verify(t *testing.T, o delivery.Options, via emailprovider.Route, recipient string) emailprovider.Report {
	t.Helper()
	var seen []emailprovider.StepReport
	r := delivery.New(o).Verify(t.Context(), via, recipient, func(s emailprovider.StepReport) { seen = append(seen, s) })
	if diff := cmp.Diff(r.Steps, seen); diff != "" {
		t.Errorf("progress is not the report:\n%s", diff)
	}
	if len(r.Steps) == 0 {
		t.Fatalf("no steps: %+v", r.Failed)
	}
	for i, step := range r.Steps {
		if step.Took <= 0 || step.Passed != (i < len(r.Steps)-1 || r.Passed()) {
			t.Errorf("step %d of %d: %+v", i, len(r.Steps), step)
		}
		for _, shown := range slices.Concat([]string{step.Text, step.Mechanism}, step.Capabilities, step.Mechanisms) {
			isShowable(t, shown)
		}
	}
	if last := r.Steps[len(r.Steps)-1]; !r.Passed() && (last.Code != r.Failed.Code || last.Text != r.Failed.Text) {
		t.Errorf("the last step %+v is not the failure %+v", last, r.Failed)
	}
	return r
}

func isShowable(t *testing.T, s string) {
	t.Helper()
	if len(s) > 256 || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%d bytes, %q", len(s), s)
	}
}

// stepsOf returns the names of a report's steps.
func stepsOf(r emailprovider.Report) string {
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// stepOf returns the last step with a name.
func stepOf(t *testing.T, r emailprovider.Report, name string) emailprovider.StepReport {
	t.Helper()
	for _, s := range slices.Backward(r.Steps) {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no step %s in %s", name, stepsOf(r))
	return emailprovider.StepReport{}
}

// TestVerify goes every way to a secure connection, and to a plain one.
func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name, port string
		mode       smtptest.Mode
		version    uint16
		steps      string // before auth
		secured    string // the step that tells of TLS
	}{
		{"plain", "25", smtptest.Plain, 0, "dns tcp greeting ehlo", ""},
		{"implicit", "465", smtptest.ImplicitTLS, 0, "dns tcp tls greeting ehlo", "tls"},
		{"implicit, TLS 1.2", "465", smtptest.ImplicitTLS, tls.VersionTLS12, "dns tcp tls greeting ehlo", "tls"},
		{"starttls", "587", smtptest.StartTLS, 0, "dns tcp greeting ehlo starttls ehlo", "starttls"},
		{"other port, implicit", "8465", smtptest.ImplicitTLS, 0, "dns tcp tls greeting ehlo", "tls"},
		{"other port, starttls", "8587", smtptest.StartTLS, 0, "dns tcp tls dns tcp greeting ehlo starttls ehlo", "starttls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca := newCA(t)
			until := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
			cert, err := ca.Issue(time.Now().Add(-time.Hour), until, hostName)
			if err != nil {
				t.Fatal(err)
			}
			s := startServer(t, smtptest.Options{Mode: c.mode, CA: ca, Certificate: cert, MaxVersion: c.version, DemandAuth: true})
			s.SetPassword(user, password)
			o := delivery.Options{Roots: ca.Pool(), Dialer: redirect{s.Addr(), nil}}
			via := tlsRoute(c.port)
			via.SMTP.TLS = c.secured != ""
			for recipient, more := range map[string]string{"": " auth", tried: " auth from recipient rset"} {
				r := verify(t, o, via, recipient)
				if !r.Passed() || stepsOf(r) != c.steps+more {
					t.Fatalf("%s: %+v", stepsOf(r), r.Failed)
				}
				hello, auth := stepOf(t, r, "ehlo"), stepOf(t, r, "auth")
				if hello.Code != 250 || !slices.Contains(hello.Capabilities, "PIPELINING") || !slices.Equal(hello.Mechanisms, []string{"PLAIN", "LOGIN"}) {
					t.Errorf("%+v", hello)
				}
				if auth.Code != 235 || auth.Mechanism != "PLAIN" || auth.Text == "" {
					t.Errorf("%+v", auth)
				}
				if c.secured != "" {
					got := stepOf(t, r, c.secured).TLS
					if got == nil || c.version != 0 && got.Version != "TLS 1.2" || c.version == 0 && got.Version != "TLS 1.3" ||
						!strings.HasPrefix(got.CipherSuite, "TLS_") {
						t.Fatalf("%+v", got)
					}
					want := []emailprovider.Certificate{{Subject: "CN=smtptest", Issuer: "CN=smtptest CA", Expires: until}}
					if diff := cmp.Diff(want, got.Chain); diff != "" {
						t.Error(diff)
					}
				}
			}
			if len(s.Mails()) != 0 || len(s.Attempts()) != 2 || s.Attempts()[0].TLS != via.SMTP.TLS {
				t.Errorf("the server has %v %v", s.Mails(), s.Attempts())
			}
		})
	}
}

// TestVerifyOffersChange: what is offered before STARTTLS is not what is offered after.
func TestVerifyOffersChange(t *testing.T) {
	ca := newCA(t)
	s := startServer(t, smtptest.Options{Mode: smtptest.StartTLS, CA: ca})
	s.SetPassword(user, password)
	o := delivery.Options{Roots: ca.Pool(), Dialer: redirect{s.Addr(), nil}}
	via := tlsRoute("587")
	via.SMTP.Host = "localhost:587"
	r := verify(t, o, via, "")
	if !r.Passed() {
		t.Fatal(r.Failed)
	}
	before, after := r.Steps[3], r.Steps[5]
	if !slices.Contains(before.Capabilities, "STARTTLS") || len(before.Mechanisms) != 0 ||
		slices.Contains(after.Capabilities, "STARTTLS") || len(after.Mechanisms) != 2 {
		t.Errorf("%+v\n%+v", before, after)
	}
}

// TestVerifyCommands is what a server gets to hear, with and without a recipient.
func TestVerifyCommands(t *testing.T) {
	for recipient, want := range map[string][]string{
		"":    {"EHLO", "AUTH", "QUIT"},
		tried: {"EHLO", "AUTH", "MAIL FROM:<sender@example.com>", "RCPT TO:<rcpt@example.org>", "RSET", "QUIT"},
	} {
		h := startHostile(t, smtptest.Script{})
		if r := verify(t, delivery.Options{}, withPassword(plainRoute(h.Addr())), recipient); !r.Passed() {
			t.Error(r.Failed)
		}
		lines := h.Lines()
		if len(lines) != len(want) {
			t.Fatalf("%q", lines)
		}
		for i := range want {
			if !strings.HasPrefix(lines[i], want[i]) {
				t.Errorf("%q is not %s", lines[i], want[i])
			}
		}
	}
}

// TestVerifyMechanisms logs in with each mechanism, with the right password and with a wrong one.
func TestVerifyMechanisms(t *testing.T) {
	for _, mechanism := range smtptest.Mechanisms() {
		s := startServer(t, smtptest.Options{Mode: smtptest.ImplicitTLS, Mechanisms: []string{mechanism}})
		s.SetPassword(user, password)
		for given, ok := range map[string]bool{password: true, "a wr0ng p4ssword": false} {
			via := withPassword(plainRoute(s.Addr()))
			via.SMTP.TLS, via.Secret = true, secret.New(given)
			steps := "dns tcp tls greeting ehlo auth"
			if mechanism == "XOAUTH2" {
				via.SMTP.Auth, steps = emailprovider.AuthXOAuth2, "dns tcp tls greeting ehlo token auth"
			}
			r := verify(t, delivery.Options{Roots: s.CA().Pool(), Tokens: fixedToken(given)}, via, tried)
			auth := stepOf(t, r, "auth")
			if auth.Mechanism != mechanism || auth.Passed != ok || r.Passed() != ok {
				t.Errorf("%s: %+v", mechanism, auth)
			}
			if ok {
				continue
			}
			if stepsOf(r) != steps || auth.Code != 535 || auth.Text == "" || r.Failed.Step != emailprovider.StepAuth || r.Failed.Temporary {
				t.Errorf("%s: %s %+v", mechanism, stepsOf(r), r.Failed)
			}
		}
		if len(s.Mails()) != 0 {
			t.Error("a mail was sent")
		}
	}
}

// TestVerifyWithoutLogin: a route that does not log in is not asked to.
func TestVerifyWithoutLogin(t *testing.T) {
	for name, change := range map[string]func(*emailprovider.Route){
		"none":        func(r *emailprovider.Route) { r.SMTP.Auth = emailprovider.AuthNone },
		"no password": func(r *emailprovider.Route) { r.Secret = secret.Text{} },
	} {
		h := startHostile(t, smtptest.Script{})
		via := withPassword(plainRoute("mail.example.com:25"))
		change(&via)
		r := verify(t, delivery.Options{Dialer: redirect{h.Addr(), elsewhere}}, via, tried)
		if !r.Passed() || stepsOf(r) != "dns tcp greeting ehlo from recipient rset" {
			t.Errorf("%s: %s %+v", name, stepsOf(r), r.Failed)
		}
		if slices.ContainsFunc(h.Lines(), func(l string) bool { return strings.HasPrefix(l, "AUTH") }) {
			t.Errorf("%s: %q", name, h.Lines())
		}
	}
}

// TestVerifyCertificates: a chain that is refused is shown.
func TestVerifyCertificates(t *testing.T) {
	ca, stranger := newCA(t), newCA(t)
	now := time.Now().UTC().Truncate(time.Second)
	for _, c := range []struct {
		name  string
		ca    *smtptest.CA
		until time.Time
		host  string
		text  string
	}{
		{"expired", ca, now.Add(-time.Hour), hostName, "expired"},
		{"untrusted", stranger, now.Add(time.Hour), hostName, "unknown authority"},
		{"wrong name", ca, now.Add(time.Hour), "mail.example.net", "mail.example.net"},
	} {
		cert, err := c.ca.Issue(now.Add(-48*time.Hour), c.until, c.host)
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			mode       smtptest.Mode
			port, name string
			version    uint16
			shown      string
		}{
			{smtptest.ImplicitTLS, "465", "tls", 0, "TLS 1.3"},
			{smtptest.ImplicitTLS, "8465", "tls", tls.VersionTLS12, "TLS 1.2"},
			{smtptest.StartTLS, "587", "starttls", 0, "TLS 1.3"},
			{smtptest.StartTLS, "8587", "starttls", tls.VersionTLS12, "TLS 1.2"},
		} {
			s := startServer(t, smtptest.Options{Mode: way.mode, CA: c.ca, Certificate: cert, MaxVersion: way.version})
			r := verify(t, delivery.Options{Roots: ca.Pool(), Dialer: redirect{s.Addr(), nil}}, tlsRoute(way.port), "")
			last := r.Steps[len(r.Steps)-1]
			if last.Name != way.name || last.Passed || !strings.Contains(last.Text, c.text) || string(r.Failed.Step) != way.name {
				t.Errorf("%s %s: %+v", c.name, way.port, last)
			}
			want := []emailprovider.Certificate{{Subject: "CN=smtptest", Issuer: "CN=smtptest CA", Expires: c.until}}
			if last.TLS == nil || last.TLS.Version != way.shown || last.TLS.CipherSuite == "" || !cmp.Equal(want, last.TLS.Chain) {
				t.Errorf("%s %s: %+v", c.name, way.port, last.TLS)
			}
			if len(s.Attempts()) != 0 {
				t.Error("logged in")
			}
		}
	}
}

// TestVerifyHostileChain: what a certificate says is shown in bounds.
func TestVerifyHostileChain(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	evil := pkix.Name{CommonName: "evil\x1b[31m\r\n" + password, Organization: []string{strings.Repeat("ж", 3000)}}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: evil, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{PrivateKey: key}
	for range 12 {
		cert.Certificate = append(cert.Certificate, der)
	}
	h := startHostile(t, smtptest.Script{Implicit: true, Certificate: cert})
	r := verify(t, delivery.Options{Dialer: redirect{h.Addr(), nil}}, tlsRoute("465"), "")
	details := stepOf(t, r, "tls").TLS
	if details == nil || len(details.Chain) != 10 {
		t.Fatalf("%+v, %+v", details, r.Failed)
	}
	for _, c := range details.Chain {
		isShowable(t, c.Subject)
		isShowable(t, c.Issuer)
		if !strings.Contains(c.Subject, "жжж") || c.Subject != c.Issuer {
			t.Errorf("%+v", c)
		}
	}
	hasNoSecret(t, r)
}

// nameServer answers every question with a code, and with 127.0.0.1 if that is 0. It returns a
// resolver that asks only it.
func nameServer(t *testing.T, code byte) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		for q := make([]byte, 512); ; {
			n, from, err := conn.ReadFrom(q)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(nameReply(slices.Clone(q[:n]), code), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// nameReply makes a reply of a question (RFC 1035, section 4.1).
func nameReply(q []byte, code byte) []byte {
	end := 12
	for q[end] != 0 {
		end += 1 + int(q[end])
	}
	isA := q[end+2] == 1
	reply := q[:end+5]
	reply[2], reply[3] = 0x81, 0x80|code
	copy(reply[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	if code == 0 && isA {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
	}
	return reply
}

// TestVerifyLookup has names that resolve, that don't, and none to look up. Nothing is told of the
// resolver, nor of addresses.
func TestVerifyLookup(t *testing.T) {
	h := startHostile(t, smtptest.Script{})
	_, port, _ := net.SplitHostPort(h.Addr())
	const noHost, failing = 3, 2
	for _, c := range []struct {
		name string
		host string
		code byte
		want emailprovider.DeliveryError // zero if it passes
		text string
	}{
		{"found", "mail.example.com.", 0, emailprovider.DeliveryError{}, ""},
		{"an address", "127.0.0.1", noHost, emailprovider.DeliveryError{}, "an address, no lookup"},
		{"unknown", "mail.example.com.", noHost, emailprovider.DeliveryError{Step: emailprovider.StepDial, Text: "no such host", Temporary: true}, ""},
		{"failing", "mail.example.com.", failing, emailprovider.DeliveryError{Step: emailprovider.StepDial, Text: "name lookup failed", Temporary: true}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dialer := &net.Dialer{Resolver: nameServer(t, c.code)}
			r := verify(t, delivery.Options{Dialer: dialer}, plainRoute(c.host+":"+port), "")
			if c.want.Step == "" {
				if !r.Passed() || stepsOf(r) != "dns tcp greeting ehlo" || r.Steps[0].Text != c.text {
					t.Errorf("%+v", r)
				}
				return
			}
			if r.Passed() || *r.Failed != c.want || stepsOf(r) != "dns" {
				t.Errorf("%s %+v", stepsOf(r), r.Failed)
			}
			if all := fmt.Sprintf("%+v %+v", r.Steps, r.Failed); strings.Contains(all, "127.0.0.1") {
				t.Error(all)
			}
		})
	}
	silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	o := delivery.Options{Dialer: &net.Dialer{Resolver: silent}, StepTimeout: 50 * time.Millisecond}
	if r := verify(t, o, plainRoute("mail.example.com.:"+port), ""); stepsOf(r) != "dns" || r.Failed.Text != "timed out" {
		t.Errorf("%s %+v", stepsOf(r), r.Failed)
	}
}

// TestVerifyTellsOfLookupAtOnce: the progress of the lookup does not wait for the connection.
func TestVerifyTellsOfLookupAtOnce(t *testing.T) {
	h := startHostile(t, smtptest.Script{})
	_, port, _ := net.SplitHostPort(h.Addr())
	var told, before []string
	dialer := &net.Dialer{
		Resolver: nameServer(t, 0),
		Control: func(network, _ string, _ syscall.RawConn) error {
			if strings.HasPrefix(network, "tcp") {
				before = slices.Clone(told)
			}
			return nil
		},
	}
	via := plainRoute("mail.example.com.:" + port)
	r := delivery.New(delivery.Options{Dialer: dialer}).Verify(t.Context(), via, "", func(s emailprovider.StepReport) {
		told = append(told, s.Name)
	})
	if !r.Passed() || !slices.Equal(before, []string{"dns"}) {
		t.Errorf("%v before the connection, %v in all", before, told)
	}
}

type dialerFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialerFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

// TestVerifyBeforeConversation fails where no server has said anything.
func TestVerifyBeforeConversation(t *testing.T) {
	closed := startHostile(t, smtptest.Script{})
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	h := startHostile(t, smtptest.Script{AuthOffer: "GSSAPI"})
	guard := dialerFunc(func(context.Context, string, string) (net.Conn, error) {
		return nil, &emailprovider.DeliveryError{Step: emailprovider.StepDial, Text: "host is not allowed"}
	})
	login := withPassword(plainRoute("relay.example.com:2500"))
	noUser := withPassword(plainRoute("relay.example.com:2500"))
	noUser.SMTP.User = ""
	noSender := plainRoute(h.Addr())
	noSender.SMTP.SenderAddress = "a@b.c> NOTIFY=NEVER"
	for _, c := range []struct {
		name   string
		dialer delivery.Dialer
		via    emailprovider.Route
		steps  string
		step   emailprovider.Step
		text   string
	}{
		{"closed port", nil, plainRoute(closed.Addr()), "dns tcp", emailprovider.StepDial, "connection refused"},
		{"guarded", guard, login, "dns tcp", emailprovider.StepDial, "host is not allowed"},
		{"no port", nil, plainRoute("relay.example.com"), "dns", emailprovider.StepDial, "host is not host:port"},
		{"plain text", redirect{h.Addr(), elsewhere}, login, "dns tcp auth", emailprovider.StepAuth, "--plaintext-auth-host"},
		{"no user", nil, noUser, "auth", emailprovider.StepAuth, "has no user"},
		{"no mechanism", redirect{h.Addr(), nil}, login, "dns tcp greeting ehlo auth", emailprovider.StepAuth, "it offers GSSAPI"},
		{"bad sender", nil, noSender, "from", emailprovider.StepFrom, "the sender's address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := verify(t, delivery.Options{Dialer: c.dialer}, c.via, tried)
			if r.Passed() || stepsOf(r) != c.steps || r.Failed.Step != c.step || !strings.Contains(r.Failed.Text, c.text) {
				t.Errorf("%s %+v", stepsOf(r), r.Failed)
			}
			if strings.Contains(r.Failed.Text, "127.0.0.1") {
				t.Errorf("an address in %q", r.Failed.Text)
			}
			if slices.ContainsFunc(h.Lines(), func(l string) bool { return strings.HasPrefix(l, "AUTH") || strings.HasPrefix(l, "MAIL") }) {
				t.Errorf("%q", h.Lines())
			}
		})
	}
}

// TestVerifyAgreesWithDeliver: on a broken server, a verification says what a delivery would say.
func TestVerifyAgreesWithDeliver(t *testing.T) {
	type trouble struct {
		name   string
		script smtptest.Script
		port   string // of a secure connection; empty for a plain one
		step   string // that a report names, if it matters
		silent bool
	}
	var all []trouble
	for stage, name := range map[string]string{
		smtptest.Greeting: "greeting", smtptest.EHLO: "ehlo", smtptest.Auth: "auth",
		smtptest.MailFrom: "from", smtptest.RcptTo: "recipient",
	} {
		for what, a := range map[string]smtptest.Answer{
			"421": smtptest.Say("421 4.3.2 closing\r\n"), "451": smtptest.Say("451 4.3.0 later\r\n"),
			"554": smtptest.Say("554-5.7.1 no\r\n554 never\r\n"), "wrong code": smtptest.Say("354 go on\r\n"),
			"nonsense": smtptest.Say("hello\r\n"), "two codes": smtptest.Say("550-a\r\n551 b\r\n"),
			"control": smtptest.Say("550 \a\x1b[31m\xff\u202e\r\n"), "hang-up": smtptest.Hangup(), "silence": smtptest.Stall(),
			"endless line": smtptest.Endless("2"), "endless reply": smtptest.Endless("250-x\r\n"),
			"echo": smtptest.Echo("550 no: %s\r\n"),
		} {
			all = append(all, trouble{name + ", " + what, answers(stage, a), "", name, what == "silence"})
		}
	}
	ca := newCA(t)
	cert, err := ca.Issue(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), hostName)
	if err != nil {
		t.Fatal(err)
	}
	for what, a := range map[string]smtptest.Answer{
		"454": smtptest.Say("454 4.7.0 not now\r\n"), "502": smtptest.Say("502 no\r\n"), "injected": smtptest.Say("220 go\r\n250 ok\r\n"),
		"hang-up": smtptest.Hangup(), "silence": smtptest.Stall(),
	} {
		script := answers(smtptest.Upgrade, a)
		script.Certificate = cert
		all = append(all, trouble{"starttls, " + what, script, "587", "starttls", what == "silence"})
	}
	for _, port := range []string{"465", "587", "8587"} {
		all = append(all, trouble{"stripped, " + port, smtptest.Script{}, port, "", false})
	}
	for _, s := range silentTLS(t) {
		all = append(all, trouble{"silent, " + s.port + " " + string(s.step), s.script, s.port, "", true})
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := startHostile(t, c.script)
			via := withPassword(plainRoute(h.Addr()))
			o := delivery.Options{Roots: ca.Pool()}
			if c.silent {
				o.StepTimeout = time.Second
			}
			if c.port != "" {
				via, o.Dialer = tlsRoute(c.port), redirect{h.Addr(), nil}
			}
			want := failed(t, deliver(t, o, via))
			within(t, 5*time.Second, func() {
				r := verify(t, o, via, tried)
				if diff := cmp.Diff(&want, r.Failed); diff != "" {
					t.Errorf("delivery and verification differ:\n%s", diff)
				}
				if c.step != "" && r.Steps[len(r.Steps)-1].Name != c.step {
					t.Errorf("steps %s", stepsOf(r))
				}
			})
		})
	}
}

// TestVerifyReset: a server that does not take RSET is not one to send through.
func TestVerifyReset(t *testing.T) {
	h := startHostile(t, answers("RSET", smtptest.Say("500 what\r\n")))
	r := verify(t, delivery.Options{}, plainRoute(h.Addr()), tried)
	want := &emailprovider.DeliveryError{Step: emailprovider.StepRecipient, Code: 500, Text: "what"}
	if diff := cmp.Diff(want, r.Failed); diff != "" || stepsOf(r) != "dns tcp greeting ehlo from recipient rset" {
		t.Errorf("%s %s", stepsOf(r), diff)
	}
}

// TestVerifyQuit: the goodbye does not fail a verification, nor take long.
func TestVerifyQuit(t *testing.T) {
	for name, a := range map[string]smtptest.Answer{
		"5xx": smtptest.Say("500 what\r\n"), "hang-up": smtptest.Hangup(), "stall": smtptest.Stall(), "nonsense": smtptest.Say("\x00\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHostile(t, answers(smtptest.Quit, a))
			within(t, 1500*time.Millisecond, func() {
				if r := verify(t, delivery.Options{}, plainRoute(h.Addr()), ""); !r.Passed() {
					t.Error(r.Failed)
				}
			})
		})
	}
}

// TestVerifyInTime: a server that takes its time at every step does not get more of it than Timeout.
func TestVerifyInTime(t *testing.T) {
	for _, s := range stages[:5] {
		h := startHostile(t, answers(s.stage, smtptest.Stall()))
		o := delivery.Options{StepTimeout: time.Minute, Timeout: 50 * time.Millisecond}
		within(t, 2*time.Second, func() {
			r := verify(t, o, withPassword(plainRoute(h.Addr())), tried)
			want := &emailprovider.DeliveryError{Step: s.step, Text: "timed out", Temporary: true}
			if diff := cmp.Diff(want, r.Failed); diff != "" {
				t.Errorf("%s: %s", s.stage, diff)
			}
		})
	}
}

// hasNoSecret looks for the password, and for what was sent of it, in all of a report.
func hasNoSecret(t *testing.T, r emailprovider.Report) {
	t.Helper()
	all, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%s %+v %+v", all, r.Steps, r.Failed)
	blob := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	for _, known := range []string{password, blob[len(blob)/2:], base64.StdEncoding.EncodeToString([]byte(password))} {
		for i := range len(known) - 5 {
			if strings.Contains(shown, known[i:i+6]) {
				t.Errorf("%q is in %s", known[i:i+6], shown)
			}
		}
	}
}

// TestVerifyEchoes: what a server repeats, at whatever step and in whatever form, is not shown.
func TestVerifyEchoes(t *testing.T) {
	blob := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	hello := func(lines ...string) string {
		return "250-hi\r\n250-" + strings.Join(lines, "\r\n250-") + "\r\n250 AUTH PLAIN LOGIN\r\n"
	}
	for name, c := range map[string]struct {
		script smtptest.Script
		fold   bool
	}{
		"greeting":    {answers(smtptest.Greeting, smtptest.Say("220 "+password+"\r\n")), false},
		"capability":  {answers(smtptest.EHLO, smtptest.Say(hello("X "+password, "Y "+blob))), false},
		"mechanism":   {answers(smtptest.EHLO, smtptest.Say("250-hi\r\n250 AUTH PLAIN "+blob+" "+password+"\r\n")), false},
		"folded":      {answers(smtptest.EHLO, smtptest.Say(hello(slices.Collect(chunks(password, 4))...))), true},
		"folded blob": {answers(smtptest.EHLO, smtptest.Say(hello(slices.Collect(chunks(blob, 3))...))), true},
		"accepted":    {answers(smtptest.Auth, smtptest.Echo("235 ok: %s\r\n")), false},
		"refused":     {answers(smtptest.Auth, smtptest.Echo("535-no: %s\r\n535 "+password+"\r\n")), false},
		"later":       {answers(smtptest.RcptTo, smtptest.Say("250 welcome "+blob+"\r\n")), false},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHostile(t, c.script)
			r := verify(t, delivery.Options{}, withPassword(plainRoute(h.Addr())), tried)
			hasNoSecret(t, r)
			if !strings.Contains(fmt.Sprintf("%+v", r.Steps), "[redacted]") {
				t.Errorf("nothing was redacted in %+v", r.Steps)
			}
			if joined := strings.Join(stepOf(t, r, "ehlo").Capabilities, ""); c.fold && (strings.Contains(joined, "c4n4ry") || strings.Contains(joined, blob[40:46])) {
				t.Errorf("%q", joined)
			}
		})
	}
}

// chunks cuts s into pieces of n bytes.
func chunks(s string, n int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for c := range slices.Chunk([]byte(s), n) {
			if !yield(string(c)) {
				return
			}
		}
	}
}

// TestVerifyHostileOffers: what EHLO is answered with is shown in bounds, whatever it is.
func TestVerifyHostileOffers(t *testing.T) {
	many := "250-hi\r\n" + strings.Repeat("250-X-CAPABILITY\r\n", 3000) + "250 AUTH PLAIN\r\n"
	for name, c := range map[string]struct {
		reply string
		most  int
	}{
		"thousands": {many, 64},
		"long":      {"250-hi\r\n250-" + strings.Repeat("x", 4000) + "\r\n250 AUTH PLAIN\r\n", 2},
		"control":   {"250-hi\x00\r\n250-A\x1b[31m\x07\xff\u202e\r\n250 AUTH PLAIN \x1b[0m\r\n", 2},
		"none":      {"250 AUTH\r\n", 0},
		"empty":     {"250-\r\n250-\r\n250 AUTH PLAIN\r\n", 2},
		"many ways": {"250-hi\r\n250 AUTH PLAIN " + strings.Repeat("X-WAY ", 600) + "\r\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHostile(t, answers(smtptest.EHLO, smtptest.Say(c.reply)))
			r := verify(t, delivery.Options{}, withPassword(plainRoute(h.Addr())), "")
			hello := stepOf(t, r, "ehlo")
			if !hello.Passed || len(hello.Capabilities) != c.most || len(hello.Mechanisms) > 64 {
				t.Errorf("%d capabilities, %d mechanisms: %+v", len(hello.Capabilities), len(hello.Mechanisms), hello)
			}
			if name != "none" && hello.Mechanisms[0] != "PLAIN" {
				t.Errorf("%q", hello.Mechanisms)
			}
		})
	}
}

// TestVerifyToken: the token endpoint is a step of its own.
func TestVerifyToken(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		steps   string
		text    string
	}{
		"good": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"access_token":"b34rer t0ken"}`)
		}, "dns tcp greeting ehlo token auth", ""},
		"refused": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
		}, "dns tcp greeting ehlo token", "from the token endpoint invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := httptest.NewServer(c.handler)
			defer endpoint.Close()
			script := smtptest.Script{AuthOffer: "XOAUTH2", Answers: map[string]smtptest.Answer{
				smtptest.Auth: smtptest.Say("235 welcome b34rer t0ken\r\n"),
			}}
			h := startHostile(t, script)
			r := verify(t, delivery.Options{}, xoauth2Route(h.Addr(), endpoint.URL), "")
			if stepsOf(r) != c.steps || r.Passed() != (c.text == "") {
				t.Fatalf("%s %+v", stepsOf(r), r.Failed)
			}
			if last := r.Steps[len(r.Steps)-1]; r.Passed() && last.Text != "welcome [redacted]" || !r.Passed() && last.Text != c.text {
				t.Errorf("%+v", last)
			}
		})
	}
}

// TestVerifyWebhook: there is nothing that can be asked of a webhook.
func TestVerifyWebhook(t *testing.T) {
	r := delivery.New(delivery.Options{}).Verify(t.Context(), emailprovider.Route{HTTP: &emailprovider.HTTP{}}, "", nil)
	if r.Passed() || r.Failed.Step != emailprovider.StepPost || r.Failed.Temporary || len(r.Steps) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestVerifyWithoutProgress: nobody has to look.
func TestVerifyWithoutProgress(t *testing.T) {
	h := startHostile(t, smtptest.Script{})
	if r := delivery.New(delivery.Options{}).Verify(t.Context(), plainRoute(h.Addr()), "", nil); !r.Passed() || len(r.Steps) != 4 {
		t.Errorf("%+v", r)
	}
}
