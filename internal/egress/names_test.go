package egress_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// names is a name server: each name has its answers to the first lookup, the second, and so on; the last
// stays.
type names struct {
	conn net.PacketConn

	mu      sync.Mutex
	answers map[string][][]netip.Addr
	asked   map[dnsmessage.Question]int
}

func startNames(t *testing.T) *names {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{conn: conn, answers: map[string][][]netip.Addr{}, asked: map[dnsmessage.Question]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buffer := make([]byte, 1500); ; {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := n.reply(buffer[:size]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return n
}

// resolver asks this server only.
func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
}

// set gives a name its answers: "1.2.3.4,::1 | 127.0.0.1" has two for the first lookup, and one for the
// second; none is no such name.
func (n *names) set(name, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all [][]netip.Addr
	for lookup := range strings.SplitSeq(text, "|") {
		var addrs []netip.Addr
		for a := range strings.SplitSeq(strings.TrimSpace(lookup), ",") {
			if a != "none" {
				addrs = append(addrs, netip.MustParseAddr(a))
			}
		}
		all = append(all, addrs)
	}
	n.answers[strings.ToLower(strings.TrimSuffix(name, "."))] = all
}

// forget makes the next lookup of each name its first.
func (n *names) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.asked)
}

func (n *names) reply(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	m.Answers = n.records(q)
	if m.Answers == nil {
		m.RCode = dnsmessage.RCodeNameError
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// records returns nil for a name that does not exist.
func (n *names) records(q dnsmessage.Question) []dnsmessage.Resource {
	n.mu.Lock()
	defer n.mu.Unlock()
	stages := n.answers[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
	stage := min(n.asked[q], len(stages)-1)
	if n.asked[q]++; stage < 0 || stages[stage] == nil {
		return nil
	}
	found := []dnsmessage.Resource{}
	for _, a := range stages[stage] {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			found = append(found, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			found = append(found, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return found
}
