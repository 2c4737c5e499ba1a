package faultproxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/faultproxy"
)

// silence is how long nothing has to come to be none; loopback takes a thousandth of it.
const silence = 150 * time.Millisecond

// patience is for what has to come.
const patience = 10 * time.Second

// echo is a server that sends each line back, and tells what it sees.
type echo struct {
	net.Listener
	lines chan string // "end" and "reset" too
	conns sync.WaitGroup
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	e := &echo{Listener: listener, lines: make(chan string, 1000)}
	e.conns.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			e.conns.Go(func() { e.serve(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		e.conns.Wait()
	})
	return e
}

func (e *echo) serve(c net.Conn) {
	defer c.Close()
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			e.lines <- ending(err)
			return
		}
		e.lines <- strings.TrimSpace(line)
		c.Write([]byte(line))
	}
}

// sees checks what the server sees next; "" is nothing.
func (e *echo) sees(t *testing.T, want string) {
	t.Helper()
	wait := patience
	if want == "" {
		wait = silence
	}
	got := ""
	select {
	case got = <-e.lines:
	case <-time.After(wait):
	}
	if got != want {
		t.Errorf("the server sees %q, not %q", got, want)
	}
}

// ending names how a connection ended, as its reader sees it.
func ending(err error) string {
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		return ""
	case errors.Is(err, io.EOF):
		return "end"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	default:
		return err.Error()
	}
}

// client is a connection through the proxy, or why there is none.
type client struct {
	net.Conn
	lines *bufio.Reader
	err   error
}

func dial(t *testing.T, p *faultproxy.Proxy) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Address(), patience)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return &client{conn, bufio.NewReader(conn), err}
}

func (c *client) says(line string) {
	if c.err == nil {
		io.WriteString(c, line+"\n") // what comes of it is seen when reading
	}
}

// sees checks what comes next: a line, how the connection ends, or nothing.
func (c *client) sees(t *testing.T, want string) {
	t.Helper()
	got := ending(c.err)
	if c.err == nil {
		wait := patience
		if want == "" {
			wait = silence
		}
		must(t, c.SetReadDeadline(time.Now().Add(wait)))
		line, err := c.lines.ReadString('\n')
		got = strings.TrimSpace(line)
		if err != nil {
			got += ending(err)
		}
	}
	if got != want {
		t.Errorf("the client sees %q, not %q", got, want)
	}
}

func start(t *testing.T, e *echo) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Listen(e.Addr().String())
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFaults puts each fault on a connection that is open and on a new one. Pass is the control: none of
// what the others show is there without them.
func TestFaults(t *testing.T) {
	type seen struct{ client, server string }
	for _, c := range []struct {
		name          string
		fault         faultproxy.Fault
		existing, new seen
		healed        string // what the client sees of its next line on the old connection after Pass
	}{ // where the client's side is closed, it says nothing before it sees that
		{"pass", faultproxy.Pass, seen{"hello", "hello"}, seen{"hello", "hello"}, "again"},
		{"drop", faultproxy.Drop, seen{"", ""}, seen{"", ""}, ""},
		{"drop requests", faultproxy.DropRequests, seen{"", ""}, seen{"", ""}, ""},
		{"drop answers", faultproxy.DropAnswers, seen{"", "hello"}, seen{"", "hello"}, ""},
		{"stall", faultproxy.Stall, seen{"", ""}, seen{"", ""}, "hello"},
		{"lose client", faultproxy.LoseClient, seen{"end", ""}, seen{"end", ""}, ""},
		{"lose server", faultproxy.LoseServer, seen{"", "end"}, seen{"", "end"}, ""},
		{"reset", faultproxy.Reset, seen{"reset", "reset"}, seen{"reset", ""}, ""},
		{"refuse", faultproxy.Refuse, seen{"reset", "reset"}, seen{"refused", ""}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := startEcho(t)
			p := start(t, e)
			old := dial(t, p)
			old.says("before")
			e.sees(t, "before")
			old.sees(t, "before")

			says := func(to *client) {
				if c.existing.client != "end" && c.existing.client != "reset" {
					to.says("hello")
				}
			}
			p.SetExisting(c.fault)
			says(old)
			e.sees(t, c.existing.server)
			old.sees(t, c.existing.client)

			other := dial(t, p) // the fault is not for new ones yet
			other.says("other")
			e.sees(t, "other")
			other.sees(t, "other")

			must(t, p.SetNew(c.fault))
			other.says("still")
			e.sees(t, "still")
			other.sees(t, "still")
			fresh := dial(t, p)
			says(fresh)
			e.sees(t, c.new.server)
			fresh.sees(t, c.new.client)

			must(t, p.Set(faultproxy.Pass))
			late := dial(t, p)
			late.says("late")
			late.sees(t, "late")
			if c.existing.client == "" || c.fault == faultproxy.Pass {
				old.says("again")
				old.sees(t, c.healed)
			}
		})
	}
}

// TestGoodbye checks who learns that the other side has gone.
func TestGoodbye(t *testing.T) {
	for name, c := range map[string]struct {
		fault faultproxy.Fault
		want  string
	}{
		"pass":  {faultproxy.Pass, "end"},
		"drop":  {faultproxy.Drop, ""},
		"stall": {faultproxy.Stall, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEcho(t)
			p := start(t, e)
			old := dial(t, p)
			old.says("before")
			e.sees(t, "before")
			old.sees(t, "before")
			p.SetExisting(c.fault)
			old.Close()
			e.sees(t, c.want)
		})
	}
}

// TestHalfClose checks that an end passes in one way while the other goes on.
func TestHalfClose(t *testing.T) {
	e := startEcho(t)
	c := dial(t, start(t, e))
	c.says("last")
	must(t, c.Conn.(*net.TCPConn).CloseWrite())
	c.sees(t, "last")
	c.sees(t, "end")
}

// TestResetPasses checks that RST from one side is RST on the other.
func TestResetPasses(t *testing.T) {
	e := startEcho(t)
	c := dial(t, start(t, e))
	c.says("before")
	e.sees(t, "before")
	c.sees(t, "before")
	must(t, c.Conn.(*net.TCPConn).SetLinger(0))
	c.Close()
	e.sees(t, "reset")
}

// TestLatency checks that answers are late by both ways, and that what follows is not held up by what
// goes before.
func TestLatency(t *testing.T) {
	const latency = 40 * time.Millisecond
	e := startEcho(t)
	p := start(t, e)
	c := dial(t, p)
	trip := func() time.Duration {
		began := time.Now()
		c.says("hello")
		c.sees(t, "hello")
		return time.Since(began)
	}
	if without := trip(); without >= 2*latency {
		t.Errorf("a round trip takes %v without latency", without)
	}
	p.SetLatency(latency)
	if with := trip(); with < 2*latency {
		t.Errorf("a round trip takes %v with %v each way", with, latency)
	}
	const lines = 50
	pace := time.NewTicker(time.Millisecond) // so that each is read by itself
	defer pace.Stop()
	began := time.Now()
	for range lines {
		c.says("hello")
		<-pace.C
	}
	for range lines {
		c.sees(t, "hello")
	}
	if took := time.Since(began); took >= lines*latency/2 {
		t.Errorf("%d lines take %v: they wait for each other", lines, took)
	}
}

// TestStallHoldsBack checks that a stalled side gets no rid of what it says, as with a peer that hangs.
func TestStallHoldsBack(t *testing.T) {
	e := startEcho(t)
	p := start(t, e)
	c := dial(t, p)
	c.says("before")
	c.sees(t, "before")
	p.SetExisting(faultproxy.Stall)
	must(t, c.SetWriteDeadline(time.Now().Add(5*silence)))
	const much = 64 << 20 // more than all buffers on the way
	if n, err := c.Write(make([]byte, much)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d bytes (%v) to a stalled connection", n, err)
	}
	p.SetExisting(faultproxy.Drop)
	must(t, c.SetWriteDeadline(time.Now().Add(patience)))
	if _, err := c.Write(make([]byte, much)); err != nil {
		t.Errorf("a connection that swallows does not: %v", err)
	}
}

// TestCounts reconciles them with what was said.
func TestCounts(t *testing.T) {
	e := startEcho(t)
	p := start(t, e)
	c := dial(t, p)
	c.says("123")
	c.sees(t, "123")
	p.SetExisting(faultproxy.DropAnswers)
	c.says("12345")
	e.sees(t, "123")
	e.sees(t, "12345")
	want := faultproxy.Counts{Accepted: 1, Open: 1, ToServer: 10, ToClient: 4, Swallowed: 6}
	eventually(t, func() bool { return p.Counts() == want }, func() { t.Errorf("%+v, not %+v", p.Counts(), want) })
	p.SetExisting(faultproxy.Reset)
	eventually(t, func() bool { return p.Counts().Open == 0 }, func() { t.Error("a connection is open that was reset") })
}

// TestNoServer checks that a client is reset where there is no server, and served when there is.
func TestNoServer(t *testing.T) {
	e := startEcho(t)
	p := start(t, e)
	e.Close()
	c := dial(t, p)
	c.says("hello")
	c.sees(t, "reset")
}

// TestSetTarget checks that open connections stay where they are.
func TestSetTarget(t *testing.T) {
	first, second := startEcho(t), startEcho(t)
	p := start(t, first)
	before := dial(t, p)
	before.says("one")
	first.sees(t, "one")
	p.SetTarget(second.Addr().String())
	after := dial(t, p)
	after.says("two")
	second.sees(t, "two")
	before.says("three")
	first.sees(t, "three")
}

// TestClose checks that it ends what is open, stalled or under way, and is harmless twice.
func TestClose(t *testing.T) {
	e := startEcho(t)
	p := start(t, e)
	stalled, slow := dial(t, p), dial(t, p)
	stalled.says("a")
	stalled.sees(t, "a")
	p.SetExisting(faultproxy.Stall)
	stalled.says("a")
	p.SetLatency(time.Hour)
	slow.says("b")
	must(t, p.Close())
	must(t, p.Close())
	if open := p.Counts().Open; open != 0 {
		t.Errorf("%d connections are open", open)
	}
	if got := dial(t, p); ending(got.err) != "refused" {
		t.Errorf("a closed proxy answers (%v)", got.err)
	}
	must(t, p.SetNew(faultproxy.Pass))
	if got := dial(t, p); ending(got.err) != "refused" {
		t.Errorf("a closed proxy listens again (%v)", got.err)
	}
}

func eventually(t *testing.T, done func() bool, fail func()) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			fail()
			return
		}
	}
}
