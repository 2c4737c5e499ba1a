// Package egress is the one way out of the machine to hosts that callers have named: mail servers,
// webhooks and token endpoints.
//
// What decides is the address that a connection is about to be made to, not the name that led there: a
// resolver that answers another address the second time gains nothing. Whoever stores or tries a target
// is told before, by Denies, so that nobody waits for mails that can't leave.
//
// There are two kinds of denied addresses. Those where nobody's mail server is (link-local ones with
// the metadata services of clouds, unspecified, multicast and reserved ones) are denied always. Loopback
// and private ones are denied once there is more than one instance, since then those who name hosts
// need not be those who own the network; an operator can allow some of them, see Target.
package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/net/idna"
)

// ErrDenied is why a connection was not made. It says nothing of the target: a caller must not learn
// what is there.
var ErrDenied = errors.New("nothing may be sent to this host; the operator can allow some with --egress-allow")

// lookupTime bounds a lookup by Denies, which somebody waits for.
const lookupTime = time.Second

// Options of a Guard. With the zero value there is one instance, and nothing is allowed besides.
type Options struct {
	// Allow are targets that loopback and private addresses are reached at nevertheless.
	Allow []Target
	// Many reports whether there is more than one instance. One that can't tell says true. It is asked
	// for loopback and private addresses only; nil is never.
	Many func(ctx context.Context) bool
	// Resolver looks names up; nil for the system's.
	Resolver *net.Resolver
}

// Guard dials, but not everywhere. It uses no proxy, and knows no redirects: whoever follows one dials
// again.
type Guard struct {
	Options
	dialling func(network, address string) error // told of each address that is let through; for tests
}

// NewGuard returns a Guard.
func NewGuard(o Options) *Guard {
	if o.Many == nil {
		o.Many = func(context.Context) bool { return false }
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	return &Guard{Options: o, dialling: func(string, string) error { return nil }}
}

// DialContext connects as net.Dialer does, but not to denied addresses: if there are no others, its error
// is ErrDenied, wrapped.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	named := parsePlace(address)
	if named.odd {
		return nil, ErrDenied
	}
	d := net.Dialer{
		Resolver: g.Resolver,
		ControlContext: func(ctx context.Context, network, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || !g.permits(ctx, named.host, to.Addr(), to.Port()) {
				return ErrDenied
			}
			return g.dialling(network, address)
		},
	}
	return d.DialContext(ctx, network, address)
}

// Denies reports whether a target, which is host:port, is one that DialContext would refuse. A name is
// looked up, and one with a denied address among others is denied. One that is not found, or not at once,
// is not denied: its server may come later, and DialContext looks again.
func (g *Guard) Denies(ctx context.Context, address string) bool {
	p := parsePlace(address)
	switch {
	case p.odd:
		return true
	case p.addr.IsValid():
		return !g.permits(ctx, p.host, p.addr, p.port)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	found, _ := g.Resolver.LookupNetIP(ctx, "ip", p.host)
	return slices.ContainsFunc(found, func(a netip.Addr) bool { return !g.permits(ctx, p.host, a, p.port) })
}

// permits reports whether a connection may be made to an address that was found under a name.
func (g *Guard) permits(ctx context.Context, host string, to netip.Addr, port uint16) bool {
	switch reachOf(to) {
	case public:
		return true
	case private:
		return slices.ContainsFunc(g.Allow, func(t Target) bool { return t.matches(host, to, port) }) || !g.Many(ctx)
	}
	return false
}

// place is host:port taken apart.
type place struct {
	host string     // in lower case, without brackets and the root's dot
	addr netip.Addr // if the host is one
	port uint16     // 0 for one that is no number
	odd  bool       // no host that a mail server or a URL has
}

// parsePlace refuses what a resolver may take for an address although it does not look like one.
func parsePlace(address string) place {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return place{odd: true}
	}
	n, _ := strconv.ParseUint(port, 10, 16)
	p := place{host: fold(host), port: uint16(n)}
	if p.addr, err = netip.ParseAddr(p.host); err == nil {
		return p
	}
	p.odd = p.host == "" || strings.ContainsAny(p.host, "%:[]/\\@ ") || endsInNumber(p.host) || endsInNumber(host)
	return p
}

// fold makes hosts comparable, in the way in which net/http reads a URL's.
func fold(host string) string {
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// endsInNumber reports whether the last label is a number. No name's is, but inet_aton takes such hosts
// for addresses: 2130706433, 0x7f.1, 0177.0.0.1 (WHATWG URL, section 3.5).
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return true // a second dot at the end, or nothing at all
	}
	if digits, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.TrimFunc(last, unicode.IsDigit) == "" // of any script
}
