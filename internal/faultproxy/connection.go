package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// way is a direction.
type way int

const (
	toServer way = iota
	toClient
)

// connection is one that a client has opened, with ours to the server.
type connection struct {
	proxy          *Proxy
	client, server *net.TCPConn

	mu      sync.Mutex
	fault   Fault
	cut     [2]bool       // ways that something was lost on
	changed chan struct{} // closed when the fault is another one
	ended   chan struct{} // closed when both sides are
	once    sync.Once
}

// set changes what happens from now on.
func (c *connection) set(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f {
	case Reset, Refuse:
		reset(c.client)
		reset(c.server)
		c.close()
	case LoseClient:
		c.cut = [2]bool{true, true}
		_ = c.client.Close() // fails if it is closed
	case LoseServer:
		c.cut = [2]bool{true, true}
		_ = c.server.Close()
	}
	c.fault = f
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *connection) close() {
	c.once.Do(func() {
		close(c.ended)
		_ = c.client.Close()
		_ = c.server.Close()
	})
}

// run returns when nothing more can come from either side.
func (c *connection) run() {
	defer c.close()
	var ways sync.WaitGroup
	ways.Go(func() { c.carry(toServer, c.client, c.server) })
	ways.Go(func() { c.carry(toClient, c.server, c.client) })
	ways.Wait()
}

// parcel is what is on its way: bytes, or the end.
type parcel struct {
	data []byte
	end  error // io.EOF or that of a connection that was reset
	due  time.Time
}

// carry passes on what comes from one side until its end. Up to that many parcels are under way at a
// time, as much as a long line holds.
func (c *connection) carry(w way, from, to *net.TCPConn) {
	underWay := make(chan parcel, 256)
	var delivered sync.WaitGroup
	defer delivered.Wait()
	defer close(underWay)
	delivered.Go(func() {
		for p := range underWay {
			c.deliver(w, to, p)
		}
	})
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		if !c.lets(w) {
			c.proxy.count(func(counts *Counts) { counts.Swallowed += int64(n) })
		} else if n > 0 || err != nil {
			underWay <- parcel{buffer[:n], err, c.proxy.due()}
		}
		if err != nil {
			return
		}
	}
}

// lets says whether what was read may go on; while the connection is stalled it waits.
func (c *connection) lets(w way) bool {
	for {
		c.mu.Lock()
		fault, changed := c.fault, c.changed
		if fault == Drop || fault == DropRequests && w == toServer || fault == DropAnswers && w == toClient {
			c.cut[w] = true
		}
		cut := c.cut[w]
		c.mu.Unlock()
		if fault != Stall {
			return !cut
		}
		select {
		case <-changed:
		case <-c.ended:
			return false
		}
	}
}

// deliver hands over what has arrived, the end in the way it came.
func (c *connection) deliver(w way, to *net.TCPConn, p parcel) {
	select {
	case <-time.After(time.Until(p.due)):
	case <-c.ended:
		return
	}
	n, _ := to.Write(p.data) // who is gone says so on the way back
	c.proxy.count(func(counts *Counts) {
		if w == toServer {
			counts.ToServer += int64(n)
		} else {
			counts.ToClient += int64(n)
		}
	})
	switch {
	case errors.Is(p.end, io.EOF):
		_ = to.CloseWrite()
	case p.end != nil:
		c.set(Reset)
	}
}
