package egress

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Target is where connections are allowed to that would be denied because their address is loopback or
// private: a network or address, or whatever a name leads to, at one port or at any.
type Target struct {
	net  netip.Prefix // of the address
	host string       // or the name that was asked for
	port uint16       // 0 for any
}

// ParseTarget reads a target as an operator writes it: a name, an address or a network, then a port if
// only that one is meant. IPv6 has brackets if there is a port.
//
//	mail.internal  mail.internal:25  10.1.2.3:587  10.1.0.0/16  10.1.0.0/16:25  fd00:1::/32  [fd00:1::/32]:25
func ParseTarget(s string) (Target, error) {
	host, port, err := splitTarget(s)
	if err != nil {
		return Target{}, err
	}
	t := Target{port: port}
	if strings.Contains(host, "/") {
		t.net, err = netip.ParsePrefix(host)
	} else if a, bad := netip.ParseAddr(host); bad == nil && a.Zone() == "" {
		t.net = netip.PrefixFrom(a, a.BitLen())
	} else {
		t.host, err = fold(host), checkName(host)
	}
	switch {
	case err != nil:
		return Target{}, fmt.Errorf("%q is not a name, an address or a network such as 10.1.0.0/16, with or without :port", s)
	case t.host != "":
		return t, nil
	case t.net != t.net.Masked():
		return Target{}, fmt.Errorf("%q has bits set beyond its network, which is %s", s, t.net.Masked())
	case t.net.Addr().Is4In6():
		return Target{}, fmt.Errorf("%q is IPv4: write it so", s)
	case reachOf(t.net.Addr()) == never && covered(t.net):
		return Target{}, fmt.Errorf("%q is never allowed: no mail server is there", s)
	}
	return t, nil
}

// splitTarget takes the port off, if there is one.
func splitTarget(s string) (host string, port uint16, err error) {
	switch {
	case strings.HasPrefix(s, "["):
		if bare, ok := strings.CutSuffix(s, "]"); ok {
			return bare[1:], 0, nil
		}
	case strings.Count(s, ":") != 1:
		return s, 0, nil
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", s)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q does not end in a port from 1 to 65535", s)
	}
	return host, uint16(n), nil
}

func checkName(host string) error {
	if p := parsePlace(net.JoinHostPort(host, "0")); p.odd || p.addr.IsValid() || strings.ContainsAny(host, "*,") {
		return fmt.Errorf("%q is not a host", host)
	}
	return nil
}

// covered reports whether all of a network is denied always.
func covered(n netip.Prefix) bool {
	for _, k := range known {
		if k.reach == never && k.net.Bits() <= n.Bits() && k.net.Contains(n.Addr()) {
			return true
		}
	}
	return false
}

// matches reports whether a connection to an address that was found under a name is allowed.
func (t Target) matches(host string, to netip.Addr, port uint16) bool {
	if t.port != 0 && t.port != port {
		return false
	}
	if t.host != "" {
		return t.host == host
	}
	return t.net.Contains(to.Unmap().WithZone(""))
}
