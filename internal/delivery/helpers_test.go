package delivery_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	user     = "mailer@example.com"
	password = "c4n4ry päss+/=wörd"
	hostName = "mail.example.com"
)

var testMail = emailprovider.Mail{
	MessageID: "one@example.com", Date: noon, To: []string{"rcpt@example.org"}, Recipients: []string{"rcpt@example.org"},
	Subject: "Hello", Text: "line one\r\n.dot\r\n",
}

// redirect dials one address whatever it is asked for, and can claim to have reached another.
type redirect struct {
	to     string
	remote net.Addr
}

func (r redirect) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, r.to)
	if err != nil || r.remote == nil {
		return conn, err
	}
	return remoteConn{conn, r.remote}, nil
}

type remoteConn struct {
	net.Conn
	remote net.Addr
}

func (c remoteConn) RemoteAddr() net.Addr { return c.remote }

var elsewhere = &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 587}

func startServer(t *testing.T, o smtptest.Options) *smtptest.Server {
	t.Helper()
	s, err := smtptest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func startHostile(t *testing.T, script smtptest.Script) *smtptest.Hostile {
	t.Helper()
	h, err := smtptest.StartHostile(script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// answers makes a script that differs from a friendly server in one stage.
func answers(stage string, a smtptest.Answer) smtptest.Script {
	return smtptest.Script{Answers: map[string]smtptest.Answer{stage: a}}
}

func newCA(t testing.TB) *smtptest.CA {
	t.Helper()
	ca, err := smtptest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// plainRoute is to a server without TLS; with a password if user is given.
func plainRoute(addr string) emailprovider.Route {
	return emailprovider.Route{SMTP: &emailprovider.SMTP{SenderAddress: "sender@example.com", Host: addr}}
}

func withPassword(r emailprovider.Route) emailprovider.Route {
	r.SMTP.Auth, r.SMTP.User, r.Secret = emailprovider.AuthPlain, user, secret.New(password)
	return r
}

func deliver(t *testing.T, o delivery.Options, via emailprovider.Route) error {
	t.Helper()
	return delivery.New(o).Deliver(context.Background(), via, testMail)
}

// failed returns the *DeliveryError that err must be.
func failed(t *testing.T, err error) emailprovider.DeliveryError {
	t.Helper()
	var e *emailprovider.DeliveryError
	if !errors.As(err, &e) {
		t.Fatalf("not a DeliveryError: %v", err)
	}
	return *e
}

// within fails the test if f takes longer.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > limit {
		t.Errorf("took %v, more than %v", took, limit)
	}
}
