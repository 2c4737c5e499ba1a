package delivery_test

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// TestOwnCA: a provider's own authorities count for it, alone and for nobody else, over every way to TLS.
func TestOwnCA(t *testing.T) {
	mine, others := newCA(t), newCA(t)
	cert := loopbackCert(t, mine)
	for _, way := range []struct {
		port string
		mode smtptest.Mode
	}{{"465", smtptest.ImplicitTLS}, {"8465", smtptest.ImplicitTLS}, {"587", smtptest.StartTLS}, {"8587", smtptest.StartTLS}} {
		s := startServer(t, smtptest.Options{Mode: way.mode, CA: mine, Certificate: cert, DemandAuth: true})
		s.SetPassword(user, password)
		for _, c := range []struct {
			name, ca string
			roots    *smtptest.CA
			passes   bool
		}{
			{"its own", string(mine.PEM()), others, true},
			{"its own among others", string(others.PEM()) + string(mine.PEM()), others, true},
			{"none", "", others, false},
			{"everybody's", "", mine, true},
			{"another instead of everybody's", string(others.PEM()), mine, false},
			{"nonsense", "nonsense", mine, false},
		} {
			via := tlsRoute(way.port)
			via.CA = c.ca
			o := delivery.Options{Roots: c.roots.Pool(), Dialer: redirect{s.Addr(), elsewhere}}
			if err := deliver(t, o, via); (err == nil) != c.passes {
				t.Errorf("%s, %s: %v", way.port, c.name, err)
			}
		}
	}
}

func loopbackCert(t *testing.T, ca *smtptest.CA) *tls.Certificate {
	t.Helper()
	cert, err := ca.Issue(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), hostName, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestCAChanges: with other authorities no session is used that is kept from before.
func TestCAChanges(t *testing.T) {
	mine, others := newCA(t), newCA(t)
	s := startServer(t, smtptest.Options{Mode: smtptest.ImplicitTLS, CA: mine, Certificate: loopbackCert(t, mine)})
	s.SetPassword(user, password)
	transport := newTransport(t, delivery.Options{Dialer: redirect{s.Addr(), elsewhere}})
	via := tlsRoute("465")
	for i, c := range []struct {
		ca       string
		sessions int
		passes   bool
	}{
		{string(mine.PEM()), 1, true},
		{string(others.PEM()), 2, false},
		{string(mine.PEM()), 3, true},
		{"", 4, false},
	} {
		for range 2 {
			via.CA = c.ca
			d := carry(t.Context(), t, transport, stored(via, uint64(i+1), 1), letters(1))[0]
			if (d.Failed == nil) != c.passes {
				t.Errorf("%d: %v", i, d.Failed)
			}
			if !c.passes {
				break
			}
		}
		if n := s.Connections(); n != c.sessions {
			t.Errorf("%d: %d sessions, want %d", i, n, c.sessions)
		}
	}
}

// TestWebhookCA: likewise of a webhook, whose connections are kept by host.
func TestWebhookCA(t *testing.T) {
	mine, others := newCA(t), newCA(t)
	var connections, posts atomic.Int32
	hook := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		posts.Add(1)
	}))
	hook.TLS = &tls.Config{Certificates: []tls.Certificate{*loopbackCert(t, mine)}}
	hook.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	hook.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	hook.StartTLS()
	defer hook.Close()
	transport := newTransport(t, delivery.Options{Roots: mine.Pool()})
	via := emailprovider.Route{HTTP: &emailprovider.HTTP{Endpoint: hook.URL}, Secret: secret.New("signing key")}
	for i, c := range []struct {
		provider, ca string
		connections  int32
		passes       bool
	}{
		{"1", "", 1, true},
		{"2", string(mine.PEM()), 2, true}, // not over that of the first
		{"2", string(mine.PEM()), 2, true}, // but over its own
		{"2", string(others.PEM()), 3, false},
		{"1", "", 3, true},
		{"2", string(mine.PEM()), 4, true},
		{"2", "", 4, true}, // everybody's again, where one is kept
		{"3", "nonsense", 4, false},
	} {
		via.ProviderID, via.CA = c.provider, c.ca
		before := posts.Load()
		d := carry(t.Context(), t, transport, via, letters(1))[0]
		if (d.Failed == nil) != c.passes || (posts.Load() > before) != c.passes || connections.Load() != c.connections {
			t.Errorf("%d: %v, %d posts, %d connections, want %d", i, d.Failed, posts.Load()-before, connections.Load(), c.connections)
		}
		if d.Failed != nil && !strings.Contains(d.Failed.Text, "authorit") {
			t.Errorf("%d: %+v", i, d.Failed)
		}
	}
}
