package delivery_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// tap is a wire to one server, below TLS, that notes what the client writes.
type tap struct {
	to string

	mu    sync.Mutex
	wrote bytes.Buffer
}

// DialContext implements delivery.Dialer.
func (w *tap) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, w.to)
	if err != nil {
		return nil, err
	}
	return tapped{conn, w}, nil
}

type tapped struct {
	net.Conn
	tap *tap
}

func (c tapped) Write(b []byte) (int, error) {
	c.tap.mu.Lock()
	c.tap.wrote.Write(b)
	c.tap.mu.Unlock()
	return c.Conn.Write(b)
}

// RemoteAddr is not loopback's, where credentials may be in the clear.
func (c tapped) RemoteAddr() net.Addr { return elsewhere }

const bearer = "b34r3r-canary-token"

// credentials are what must not be seen, as it goes over a wire.
func credentials() (all []string) {
	for _, s := range []string{password, bearer, "\x00" + user + "\x00" + password, "user=" + user + "\x01auth=Bearer " + bearer + "\x01\x01"} {
		all = append(all, s, base64.StdEncoding.EncodeToString([]byte(s)))
	}
	return append(all, "AUTH ")
}

// seen counts the texts that have a credential in them.
func seen(texts ...string) (n int) {
	for _, text := range texts {
		if slices.ContainsFunc(credentials(), func(c string) bool { return strings.Contains(text, c) }) {
			n++
		}
	}
	return n
}

// hostileTLS is a way to get at a password before, or instead of, a good TLS connection.
type hostileTLS struct {
	name   string
	ports  []string
	script smtptest.Script
}

var (
	upgrading = []string{"25", "587", "2525", "8587"}
	implicit  = []string{"465", "8465"}
)

func hostileTLSes(t *testing.T, ca *smtptest.CA) (all []hostileTLS) {
	now := time.Now()
	issue := func(by *smtptest.CA, from, to time.Duration, names ...string) *tls.Certificate {
		cert, err := by.Issue(now.Add(from), now.Add(to), names...)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	good := issue(ca, -time.Hour, time.Hour, hostName)
	upgrade := func(name string, a smtptest.Answer) {
		all = append(all, hostileTLS{name, upgrading, smtptest.Script{Certificate: good, Answers: map[string]smtptest.Answer{smtptest.Upgrade: a}}})
	}
	all = append(all, hostileTLS{"stripped", upgrading, smtptest.Script{}}, hostileTLS{"plain where TLS is due", implicit, smtptest.Script{}})
	upgrade("not now", smtptest.Say("454 4.7.0 not now\r\n"))
	upgrade("never", smtptest.Say("502 5.5.1 no\r\n"))
	upgrade("already there", smtptest.Say("250 you are secure\r\n"))
	upgrade("ends", smtptest.Hangup())
	upgrade("no TLS after it", smtptest.Say("220 go ahead\r\n250-hostile.example\r\n250 AUTH PLAIN LOGIN\r\n"))
	upgrade("injected reply", smtptest.Say("220 go ahead\r\n250 AUTH PLAIN\r\n"))
	upgrade("injected byte", smtptest.Say("220 go ahead\r\n2"))
	upgrade("injected line end", smtptest.Say("220 go ahead\r\n\r\n"))
	upgrade("injected handshake", smtptest.Say("220 go ahead\r\n\x16\x03\x03\x00\x01"))
	for name, c := range map[string]struct {
		cert    *tls.Certificate
		version uint16
	}{
		"wrong name":    {issue(ca, -time.Hour, time.Hour, "mail.example.net"), 0},
		"name's parent": {issue(ca, -time.Hour, time.Hour, "example.com"), 0},
		"no name":       {issue(ca, -time.Hour, time.Hour), 0},
		"expired":       {issue(ca, -48*time.Hour, -time.Hour, hostName), 0},
		"not yet valid": {issue(ca, time.Hour, 48*time.Hour, hostName), 0},
		"unknown CA":    {issue(newCA(t), -time.Hour, time.Hour, hostName), 0},
		"TLS 1.0":       {good, tls.VersionTLS10},
		"TLS 1.1":       {good, tls.VersionTLS11},
	} {
		all = append(all,
			hostileTLS{name + ", upgraded", upgrading, smtptest.Script{Certificate: c.cert, MaxVersion: c.version}},
			hostileTLS{name + ", implicit", implicit, smtptest.Script{Certificate: c.cert, MaxVersion: c.version, Implicit: true}})
	}
	return all
}

// TestNothingInClear plays every hostile server to every way of logging in: no credential is on the wire
// in clear, nor does the server get to see one. A client that takes what it gets shows both to all.
func TestNothingInClear(t *testing.T) {
	ca := newCA(t)
	var scripts, tries, exposed, careless int
	for _, script := range hostileTLSes(t, ca) {
		scripts++
		script.script.AuthOffer = "PLAIN XOAUTH2"
		for _, port := range script.ports {
			for _, way := range []string{"deliver", "verify", "carry", "xoauth2"} {
				h := startHostile(t, script.script)
				wire := &tap{to: h.Addr()}
				if err := logIn(t, way, delivery.Options{Roots: ca.Pool(), Dialer: wire}, tlsRoute(port)); err == nil {
					t.Errorf("%s: %s over port %s succeeds", script.name, way, port)
				}
				tries++
				if n := seen(append(h.Lines(), wire.wrote.String())...); n > 0 {
					t.Errorf("%s: %s over port %s shows a credential", script.name, way, port)
					exposed += n
				}
			}
		}
		h := startHostile(t, script.script)
		wire := &tap{to: h.Addr()}
		logInCarelessly(t, wire, script.script.Implicit)
		if seen(append(h.Lines(), wire.wrote.String())...) == 0 {
			t.Errorf("%s: a careless client shows nothing, so this proves nothing", script.name)
		} else {
			careless++
		}
	}
	t.Logf("REL tls scripts=%d tries=%d credentials_exposed=%d control=careless exposed=%d", scripts, tries, exposed, careless)
}

// logIn returns why a way to log in has failed.
func logIn(t *testing.T, way string, o delivery.Options, via emailprovider.Route) (failed error) {
	o.Tokens = fixedToken(bearer)
	transport := newTransport(t, o)
	switch way {
	case "xoauth2":
		via.SMTP.Auth = emailprovider.AuthXOAuth2
		fallthrough
	case "deliver":
		return transport.Deliver(t.Context(), via, testMail)
	case "verify":
		if r := transport.Verify(t.Context(), via, "", nil); !r.Passed() {
			return r.Failed
		}
	case "carry":
		for _, d := range carry(t.Context(), t, transport, stored(via, 1, 1), letters(1)) {
			if d.Failed != nil {
				return d.Failed
			}
		}
	}
	return nil
}

// logInCarelessly logs in over TLS if there is any, without looking at certificates or versions, and in
// the clear if not.
func logInCarelessly(t *testing.T, wire *tap, implicit bool) {
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}
	begin := func() (net.Conn, *bufio.Reader) {
		conn, err := wire.DialContext(t.Context(), "tcp", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if implicit {
			conn = tls.Client(conn, config)
		}
		in := bufio.NewReader(conn)
		readTo(in, "220")
		_, _ = fmt.Fprint(conn, "EHLO me\r\n")
		return conn, in
	}
	conn, in := begin()
	if strings.Contains(readTo(in, "250"), "STARTTLS") {
		_, _ = fmt.Fprint(conn, "STARTTLS\r\n")
		secured := tls.Client(conn, config)
		if code := readTo(in, "220"); strings.HasPrefix(code, "220") && in.Buffered() == 0 && secured.Handshake() == nil {
			conn, in = secured, bufio.NewReader(secured)
		} else {
			conn, in = begin()
			readTo(in, "250")
		}
	}
	_, _ = fmt.Fprintf(conn, "AUTH PLAIN %s\r\n", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	readTo(in, "235")
}

// readTo reads to the last line of a reply; code is what it should begin with.
func readTo(in *bufio.Reader, code string) (all string) {
	for {
		line, err := in.ReadString('\n')
		all += line
		if err != nil || strings.HasPrefix(line, code+" ") || !strings.HasPrefix(line, code) {
			return all
		}
	}
}
