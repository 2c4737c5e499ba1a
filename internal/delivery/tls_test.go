package delivery_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

func tlsRoute(port string) emailprovider.Route {
	r := withPassword(plainRoute(hostName + ":" + port))
	r.SMTP.TLS = true
	return r
}

// TestTLS delivers over every way to TLS with every kind of certificate.
func TestTLS(t *testing.T) {
	ca, stranger := newCA(t), newCA(t)
	now := time.Now()
	issue := func(ca *smtptest.CA, until time.Time, name string) *tls.Certificate {
		cert, err := ca.Issue(now.Add(-48*time.Hour), until, name)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	tomorrow, yesterday := now.Add(24*time.Hour), now.Add(-24*time.Hour)
	certs := []struct {
		name    string
		cert    *tls.Certificate
		version uint16
		text    string // empty if the mail goes
	}{
		{"right", issue(ca, tomorrow, hostName), 0, ""},
		{"TLS 1.2", issue(ca, tomorrow, hostName), tls.VersionTLS12, ""},
		{"expired", issue(ca, yesterday, hostName), 0, "expired"},
		{"untrusted", issue(stranger, tomorrow, hostName), 0, "unknown authority"},
		{"wrong name", issue(ca, tomorrow, "mail.example.net"), 0, "mail.example.net"},
		{"TLS 1.1", issue(ca, tomorrow, hostName), tls.VersionTLS11, "protocol version"},
	}
	ways := []struct {
		name, port string
		mode       smtptest.Mode
		step       emailprovider.Step
	}{
		{"implicit", "465", smtptest.ImplicitTLS, emailprovider.StepTLS},
		{"starttls", "587", smtptest.StartTLS, emailprovider.StepStartTLS},
		{"starttls 25", "25", smtptest.StartTLS, emailprovider.StepStartTLS},
		{"starttls 2525", "2525", smtptest.StartTLS, emailprovider.StepStartTLS},
		{"other port, implicit", "8465", smtptest.ImplicitTLS, emailprovider.StepTLS},
		{"other port, starttls", "8587", smtptest.StartTLS, emailprovider.StepStartTLS},
	}
	for _, way := range ways {
		for _, c := range certs {
			t.Run(way.name+"/"+c.name, func(t *testing.T) {
				s := startServer(t, smtptest.Options{
					Mode: way.mode, CA: ca, Certificate: c.cert, MaxVersion: c.version, DemandAuth: true,
				})
				s.SetPassword(user, password)
				o := delivery.Options{Roots: ca.Pool(), Dialer: redirect{s.Addr(), elsewhere}}
				err := deliver(t, o, tlsRoute(way.port))
				if c.text == "" {
					mails := s.Mails()
					if err != nil || len(mails) != 1 || !mails[0].TLS {
						t.Fatalf("err %v, mails %v", err, mails)
					}
					return
				}
				e := failed(t, err)
				if e.Step != way.step || e.Temporary || !strings.Contains(e.Text, c.text) {
					t.Errorf("%+v", e)
				}
				if len(s.Attempts()) != 0 || len(s.Mails()) != 0 {
					t.Errorf("the server got %v %v", s.Attempts(), s.Mails())
				}
			})
		}
	}
}

// TestTLSOrNothing plays servers that try to be spoken to in the clear.
func TestTLSOrNothing(t *testing.T) {
	ca := newCA(t)
	now := time.Now()
	cert, err := ca.Issue(now.Add(-time.Hour), now.Add(time.Hour), hostName)
	if err != nil {
		t.Fatal(err)
	}
	injected := smtptest.Script{Certificate: cert, Answers: map[string]smtptest.Answer{
		smtptest.Upgrade: smtptest.Say("220 go ahead\r\n250-injected\r\n250 AUTH PLAIN\r\n"),
	}}
	refusing := func(reply string) smtptest.Script {
		s := answers(smtptest.Upgrade, smtptest.Say(reply))
		s.Certificate = cert
		return s
	}
	for _, c := range []struct {
		name, port string
		script     smtptest.Script
		want       emailprovider.DeliveryError
	}{
		{"stripped", "587", smtptest.Script{}, emailprovider.DeliveryError{
			Step: emailprovider.StepStartTLS, Text: "the server does not offer STARTTLS"}},
		{"stripped, other port", "8587", smtptest.Script{}, emailprovider.DeliveryError{
			Step: emailprovider.StepStartTLS, Text: "the server does not offer STARTTLS"}},
		{"plain where implicit is due", "465", smtptest.Script{}, emailprovider.DeliveryError{
			Step: emailprovider.StepTLS, Text: "tls: first record does not look like a TLS handshake"}},
		{"injected", "587", injected, emailprovider.DeliveryError{
			Step: emailprovider.StepStartTLS, Text: "the server sent more than its reply before the TLS handshake"}},
		{"not now", "587", refusing("454 4.7.0 not now\r\n"), emailprovider.DeliveryError{
			Step: emailprovider.StepStartTLS, Code: 454, Text: "4.7.0 not now", Temporary: true}},
		{"never", "587", refusing("502 5.5.1 no\r\n"), emailprovider.DeliveryError{
			Step: emailprovider.StepStartTLS, Code: 502, Text: "5.5.1 no"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := startHostile(t, c.script)
			o := delivery.Options{Roots: ca.Pool(), Dialer: redirect{h.Addr(), nil}}
			if e := failed(t, deliver(t, o, tlsRoute(c.port))); e != c.want {
				t.Errorf("got %+v\nwant %+v", e, c.want)
			}
			for _, line := range h.Lines() {
				if strings.HasPrefix(line, "AUTH") || strings.HasPrefix(line, "MAIL") {
					t.Errorf("sent in the clear: %q", line)
				}
			}
		})
	}
}

// TestPlainNeverUpgrades: tls=false means what it says, even if STARTTLS is offered.
func TestPlainNeverUpgrades(t *testing.T) {
	s := startServer(t, smtptest.Options{Mode: smtptest.StartTLS})
	if err := deliver(t, delivery.Options{}, plainRoute(s.Addr())); err != nil {
		t.Fatal(err)
	}
	if s.Mails()[0].TLS {
		t.Error("the mail went over TLS")
	}
}

func TestRoots(t *testing.T) {
	ca := newCA(t)
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "bad.pem")
	for name, content := range map[string][]byte{good: ca.PEM(), bad: []byte("not PEM")} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool, err := delivery.Roots(good)
	if err != nil {
		t.Fatal(err)
	}
	system, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	system.AppendCertsFromPEM(ca.PEM())
	if !pool.Equal(system) {
		t.Error("the pool is not the system's and the file's")
	}
	for _, name := range []string{bad, filepath.Join(dir, "missing.pem")} {
		if _, err := delivery.Roots(name); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
