// Package faultproxy puts faults of a network between a client and a server: a TCP proxy on loopback that
// passes connections on until it is told to do otherwise, to those that are open, to new ones, or to both.
package faultproxy

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

// Fault is what happens to a connection.
type Fault int

const (
	// Pass is no fault. A connection that has lost something stays as if cut: TCP has no holes.
	Pass Fault = iota
	// Drop swallows what both sides say, their goodbye too; neither is told.
	Drop
	// DropRequests swallows what the client says.
	DropRequests
	// DropAnswers swallows what the server says: it does what it is asked, and nobody learns of it.
	DropAnswers
	// Stall reads from neither side until the fault is lifted; nothing is lost.
	Stall
	// LoseClient closes the client's side without telling the server.
	LoseClient
	// LoseServer closes the server's side without telling the client.
	LoseServer
	// Reset ends both sides with RST; a new connection is accepted before.
	Reset
	// Refuse does not listen; a connection that is open is reset.
	Refuse
)

// Counts are how much a proxy has done since it was made.
type Counts struct {
	Accepted           int   // connections
	Open               int   // of these, now, on either side
	ToServer, ToClient int64 // bytes passed on
	Swallowed          int64 // bytes read and not passed on
}

// Proxy listens on an address of its own, which stays the same until it is closed.
type Proxy struct {
	address string
	running sync.WaitGroup
	ended   context.Context
	end     context.CancelFunc

	mu          sync.Mutex
	target      string
	fault       Fault // of new connections
	latency     time.Duration
	listener    net.Listener // nil while it refuses
	connections map[*connection]bool
	counts      Counts
}

// Listen starts a proxy for the server at target, host:port.
func Listen(target string) (*Proxy, error) {
	port, err := loopback.FreePort()
	if err != nil {
		return nil, err
	}
	p := &Proxy{address: loopback.Address(port), target: target, connections: map[*connection]bool{}}
	p.ended, p.end = context.WithCancel(context.Background())
	return p, p.SetNew(Pass)
}

// Address is where it listens, as host:port.
func (p *Proxy) Address() string { return p.address }

// SetTarget has new connections go to another server, as when a machine is replaced.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Set is SetNew and SetExisting: no connection is between the two.
func (p *Proxy) Set(f Fault) error {
	err := p.SetNew(f)
	p.SetExisting(f)
	return err
}

// SetNew says what happens to connections that are opened from now on. It fails only if it can't listen
// any more where it did before it refused.
func (p *Proxy) SetNew(f Fault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	if f == Refuse {
		return p.stopListening()
	}
	if p.listener != nil || p.ended.Err() != nil {
		return nil
	}
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		return err
	}
	p.listener = listener
	p.running.Go(func() { p.accept(listener) })
	return nil
}

// SetExisting says what happens to the connections that are open.
func (p *Proxy) SetExisting(f Fault) {
	for _, c := range p.open() {
		c.set(f)
	}
}

// SetLatency delays what is read from now on, each way, without holding up what follows.
func (p *Proxy) SetLatency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

// Counts returns what it has done so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.counts
	counts.Open = len(p.connections)
	return counts
}

// Close closes all connections and waits until it is done with them.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.end()
	err := p.stopListening()
	p.mu.Unlock()
	for _, c := range p.open() {
		c.close()
	}
	p.running.Wait()
	return err
}

func (p *Proxy) open() []*connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := make([]*connection, 0, len(p.connections))
	for c := range p.connections {
		open = append(open, c)
	}
	return open
}

// stopListening is for who holds mu.
func (p *Proxy) stopListening() error {
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	return err
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

// serve goes on until both sides are closed. A server that can't be reached resets the client.
func (p *Proxy) serve(client *net.TCPConn) {
	fault, target := p.arrived()
	if fault == Reset || fault == Refuse {
		reset(client)
		return
	}
	server, err := new(net.Dialer).DialContext(p.ended, "tcp", target)
	if err != nil {
		reset(client)
		return
	}
	c := p.register(client, server.(*net.TCPConn))
	c.run()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connections, c)
}

// arrived counts a connection and returns what happens to it, and where it goes.
func (p *Proxy) arrived() (Fault, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Accepted++
	return p.fault, p.target
}

// register makes the connection one that is open, with the fault that new ones have at this moment.
func (p *Proxy) register(client, server *net.TCPConn) *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &connection{proxy: p, client: client, server: server, changed: make(chan struct{}), ended: make(chan struct{})}
	p.connections[c] = true
	c.set(p.fault)
	if p.ended.Err() != nil {
		c.close()
	}
	return c
}

// due is when what has just come in arrives on the other side.
func (p *Proxy) due() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.latency)
}

func (p *Proxy) count(add func(*Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add(&p.counts)
}

// reset closes a connection with RST, as nothing does that closes it in order.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails if it is closed
	_ = c.Close()
}
