package delivery_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// line is a Dialer to servers at the other ends of pipes, which take everything. It works in a bubble.
type line struct {
	mu     sync.Mutex
	open   int
	most   int
	dialed int
	quits  int
	hold   chan struct{} // what the final dot waits for, if not nil
}

func (l *line) DialContext(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	l.dialed++
	l.most = max(l.most, l.open)
	go l.serve(there)
	return &lineConn{Conn: here, line: l}, nil
}

// lineConn is open until the client closes it.
type lineConn struct {
	net.Conn
	line *line
	once sync.Once
}

func (c *lineConn) Close() error {
	c.once.Do(func() {
		c.line.mu.Lock()
		defer c.line.mu.Unlock()
		c.line.open--
	})
	return c.Conn.Close()
}

func (l *line) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewScanner(conn)
	reply := "220 hello"
	for body := false; ; {
		if _, err := io.WriteString(conn, reply+"\r\n"); err != nil || strings.HasPrefix(reply, "221") {
			return
		}
		for in.Scan() && body && in.Text() != "." {
		}
		switch {
		case body && l.hold != nil:
			<-l.hold
		case strings.HasPrefix(in.Text(), "EHLO"):
			reply = "250 line"
			continue
		case in.Text() == "DATA":
			reply, body = "354 go", true
			continue
		case in.Text() == "QUIT":
			l.mu.Lock()
			l.quits++
			l.mu.Unlock()
			reply = "221 bye"
			continue
		case in.Text() == "" && in.Err() == nil:
			return
		}
		reply, body = "250 ok", false
	}
}

func (l *line) state() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d dialed, %d open, %d quits", l.dialed, l.open, l.quits)
}

// TestIdle: a session is kept for as long as it may be idle, counted from its last mail.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{}
		transport := delivery.New(delivery.Options{Dialer: l, IdleTimeout: 30 * time.Second})
		defer transport.Close()
		send := func(want string) {
			t.Helper()
			if got := fates(carry(t.Context(), t, transport, stored(plainRoute("x:25"), 1, 1), letters(2))); got != "ok, ok" {
				t.Error(got)
			}
			synctest.Wait()
			if got := l.state(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		send("1 dialed, 1 open, 0 quits")
		time.Sleep(29 * time.Second)
		send("1 dialed, 1 open, 0 quits")
		time.Sleep(29 * time.Second)
		send("1 dialed, 1 open, 0 quits")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if got := l.state(); got != "1 dialed, 0 open, 1 quits" {
			t.Error(got)
		}
		send("2 dialed, 1 open, 1 quits")
		transport.Close()
		if got := l.state(); got != "2 dialed, 0 open, 2 quits" {
			t.Error(got)
		}
		send("3 dialed, 0 open, 3 quits") // nothing is kept any more
	})
}

// TestEditions: a session is for one state of one provider. Those of earlier ones are closed when a
// later one is asked for, and not kept afterwards.
func TestEditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{}
		transport := delivery.New(delivery.Options{Dialer: l})
		defer transport.Close()
		route := func(instance, id string, sequence, version uint64) emailprovider.Route {
			via := plainRoute("x:25")
			via.Instance, via.ProviderID, via.Sequence, via.CredentialVersion = instance, id, sequence, version
			return via
		}
		for _, c := range []struct {
			via  emailprovider.Route
			want string
		}{
			{route("i", "1", 5, 1), "1 dialed, 1 open, 0 quits"},
			{route("i", "1", 5, 1), "1 dialed, 1 open, 0 quits"},
			{route("i", "2", 5, 1), "2 dialed, 2 open, 0 quits"},
			{route("j", "1", 5, 1), "3 dialed, 3 open, 0 quits"},
			{route("i", "1", 6, 2), "4 dialed, 3 open, 1 quits"}, // that of 5 is closed
			{route("i", "1", 5, 1), "5 dialed, 3 open, 2 quits"}, // a mail claimed before: on its own
			{route("i", "1", 6, 2), "5 dialed, 3 open, 2 quits"},
			{route("i", "1", 6, 3), "6 dialed, 3 open, 3 quits"},
			{route("i", "1", 7, 3), "7 dialed, 3 open, 4 quits"},
			{route("i", "", 0, 0), "8 dialed, 3 open, 5 quits"}, // not stored: not kept
		} {
			carry(t.Context(), t, transport, c.via, letters(1))
			synctest.Wait()
			if got := l.state(); got != c.want {
				t.Errorf("%+v: %s, want %s", c.via, got, c.want)
			}
		}
	})
}

// TestDrop: the sessions of an instance that is removed are closed, and nobody else's.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{}
		transport := delivery.New(delivery.Options{Dialer: l})
		defer transport.Close()
		for _, instance := range []string{"i", "j"} {
			via := stored(plainRoute("x:25"), 1, 1)
			via.Instance = instance
			carry(t.Context(), t, transport, via, letters(1))
		}
		transport.Drop("i")
		synctest.Wait()
		if got := l.state(); got != "2 dialed, 1 open, 1 quits" {
			t.Error(got)
		}
	})
}

// TestCredentialVersions rotates a password between mails: every mail after it goes over a session
// that has logged in with the new one.
func TestCredentialVersions(t *testing.T) {
	s := startServer(t, smtptest.Options{DemandAuth: true})
	transport := newTransport(t, delivery.Options{})
	for version := range uint64(5) {
		s.SetPassword(user, password)
		via := stored(withPassword(plainRoute(s.Addr())), version, version+1)
		if got := fates(carry(t.Context(), t, transport, via, letters(3))); got != "ok, ok, ok" {
			t.Error(got)
		}
	}
	for i, m := range s.Mails() {
		if m.Session != i/3+1 {
			t.Errorf("mail %d over session %d", i, m.Session)
		}
	}
}

// TestSessions: many senders together have no more sessions with a provider than they may, and one
// that waits for a session can give up.
func TestSessions(t *testing.T) {
	for range 200 { // Two that make room at once, of whom one dials too early, meet in one of 30.
		synctest.Test(t, manySenders)
	}
}

func manySenders(t *testing.T) {
	l := &line{hold: make(chan struct{})}
	transport := delivery.New(delivery.Options{Dialer: l, Sessions: 3})
	var senders sync.WaitGroup
	for i := range 20 {
		senders.Go(func() {
			via := stored(plainRoute("x:25"), uint64(1+i%2), 1) // of two states of the provider
			if got := fates(carry(t.Context(), t, transport, via, letters(3))); got != "ok, ok, ok" {
				t.Error(got)
			}
		})
	}
	synctest.Wait() // all that can begin have begun
	if got := l.state(); got != "3 dialed, 3 open, 0 quits" {
		t.Error(got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got := fates(carry(ctx, t, transport, stored(plainRoute("x:25"), 1, 1), letters(2))); got != "untried, untried" {
		t.Error(got)
	}
	close(l.hold)
	senders.Wait()
	transport.Close()
	if synctest.Wait(); l.most != 3 || l.open != 0 {
		t.Errorf("%d at once, %s", l.most, l.state())
	}
}
