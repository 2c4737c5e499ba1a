package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Connections bounds what connects.
type Connections struct {
	Most         int // at a time; 0 for no bound
	MostByRemote int // of one address at a time; 0 for no bound
}

// Listen returns l with its connections bounded. One too many is closed at once: to make it wait would make all
// wait that come after it, probes of health too.
func (c Connections) Listen(l net.Listener) net.Listener {
	return &listener{Listener: l, bounds: c, remotes: map[netip.Addr]int{}}
}

type listener struct {
	net.Listener
	bounds Connections

	mu      sync.Mutex
	open    int
	remotes map[netip.Addr]int
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		remote := remoteOf(c)
		if !l.enter(remote) {
			_ = c.Close() // nobody is told
			continue
		}
		return &conn{Conn: c, began: time.Now(), leave: sync.OnceFunc(func() { l.leave(remote) })}, nil
	}
}

func remoteOf(c net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

func (l *listener) enter(remote netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bounds.Most > 0 && l.open >= l.bounds.Most || l.bounds.MostByRemote > 0 && l.remotes[remote] >= l.bounds.MostByRemote {
		return false
	}
	l.open++
	l.remotes[remote]++
	return true
}

func (l *listener) leave(remote netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.remotes[remote]--; l.remotes[remote] == 0 {
		delete(l.remotes, remote)
	}
}

const (
	// overhead is how much a connection may send that belongs to no request, in bytes, and overheadPerSecond what
	// it may besides: a handshake, settings, pings, window updates.
	overhead          = 256 << 10
	overheadPerSecond = 2 << 10
	// perRequest is what a request may take before its body: MaxHeaderBytes.
	perRequest = 16 << 10
	// perWritten is how many bytes that were written allow one to be read: clients confirm what they get.
	perWritten = 64
	// perMessage is what may come for each message of a stream: clients that measure how fast the way is ping with
	// each.
	perMessage = 64
)

var errFlood = errors.New("the connection has sent too much that belongs to no request")

// conn is a connection that ends when it sends much that belongs to no request. An HTTP/2 server answers pings,
// settings, resets and empty frames for as long as they come, however fast.
type conn struct {
	net.Conn
	leave   func()
	began   time.Time
	read    atomic.Int64
	allowed atomic.Int64 // besides overhead and overheadPerSecond
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if read := c.read.Add(int64(n)); read > overhead+c.allowed.Load() &&
		read > overhead+c.allowed.Load()+int64(time.Since(c.began).Seconds()*overheadPerSecond) {
		_ = c.Close()
		return 0, errFlood
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.allowed.Add(int64(n) / perWritten)
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite is for net/http, which ends its side first and only then closes what still sends: else a reset could
// overtake the answer.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type connKey struct{}

// withConn is for http.Server.ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// connOf returns the connection of a request, nil if it has no bounds.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// allow lets the connection send the headers of a request, and at most body bytes in frames.
func (c *conn) allow(body int64) {
	if c != nil {
		c.allowed.Add(perRequest + body + body/2)
	}
}

// confirm lets the connection say something about a message of a stream.
func (c *conn) confirm() {
	if c != nil {
		c.allowed.Add(perMessage)
	}
}

// regret takes back what a request got for its headers.
func (c *conn) regret() {
	if c != nil {
		c.allowed.Add(-perRequest)
	}
}
