package egress

import "net/netip"

// reach is from where an address can be reached, which is whose server is there.
type reach int

// From harmless to harmful, so that the worst of several is the greatest.
const (
	public  reach = iota
	private       // this machine or the network that it is in
	never         // what no mail server has
)

// known are the networks that are not public (the registries of RFC 6890), and single addresses on which
// clouds tell their machines secrets.
var known = []struct {
	reach reach
	net   netip.Prefix
}{
	{never, netip.MustParsePrefix("0.0.0.0/8")},          // this network; Linux takes 0.0.0.0 for loopback
	{never, netip.MustParsePrefix("169.254.0.0/16")},     // link-local, most metadata services
	{never, netip.MustParsePrefix("100.100.100.200/32")}, // metadata of Alibaba
	{never, netip.MustParsePrefix("100.88.222.5/32")},    // metadata of Tencent
	{never, netip.MustParsePrefix("168.63.129.16/32")},   // the host of an Azure machine
	{never, netip.MustParsePrefix("192.0.0.192/32")},     // metadata of Oracle, former address
	{never, netip.MustParsePrefix("224.0.0.0/4")},        // multicast
	{never, netip.MustParsePrefix("240.0.0.0/4")},        // reserved, and broadcast
	{never, netip.MustParsePrefix("::/128")},             // unspecified
	{never, netip.MustParsePrefix("fe80::/10")},          // link-local
	{never, netip.MustParsePrefix("ff00::/8")},           // multicast
	{never, netip.MustParsePrefix("fd00:ec2::/32")},      // metadata of AWS
	{never, netip.MustParsePrefix("fd20:ce::254/128")},   // metadata of Google
	{never, netip.MustParsePrefix("fd00:42::42/128")},    // metadata of Scaleway
	{private, netip.MustParsePrefix("127.0.0.0/8")},      // loopback
	{private, netip.MustParsePrefix("10.0.0.0/8")},       // RFC 1918, as the next two
	{private, netip.MustParsePrefix("172.16.0.0/12")},    //
	{private, netip.MustParsePrefix("192.168.0.0/16")},   //
	{private, netip.MustParsePrefix("100.64.0.0/10")},    // carrier-grade NAT
	{private, netip.MustParsePrefix("192.0.0.0/24")},     // protocol assignments
	{private, netip.MustParsePrefix("198.18.0.0/15")},    // benchmarks of networks
	{private, netip.MustParsePrefix("::1/128")},          // loopback
	{private, netip.MustParsePrefix("fc00::/7")},         // unique local
	{private, netip.MustParsePrefix("fec0::/10")},        // site-local, of old
	{private, netip.MustParsePrefix("100::/64")},         // discard
	{private, netip.MustParsePrefix("64:ff9b:1::/48")},   // NAT64 of a network's own
}

// carriers are networks whose addresses have an IPv4 address in them, where packets end up; at is its
// offset.
var carriers = []struct {
	net      netip.Prefix
	at       int
	inverted bool
}{
	{netip.MustParsePrefix("::/96"), 12, false},           // IPv4-compatible
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, false}, // IPv4-translated (RFC 7915)
	{netip.MustParsePrefix("64:ff9b::/96"), 12, false},    // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, false},  // NAT64 of a network's own
	{netip.MustParsePrefix("2002::/16"), 2, false},        // 6to4
	{netip.MustParsePrefix("2001::/32"), 4, false},        // Teredo's server
	{netip.MustParsePrefix("2001::/32"), 12, true},        // Teredo's client
}

// reachOf returns the reach of an address, or of the worst that is in it.
func reachOf(a netip.Addr) reach {
	if !a.IsValid() {
		return never
	}
	a = a.Unmap().WithZone("")
	worst := public
	for _, k := range known {
		if k.net.Contains(a) {
			worst = max(worst, k.reach)
		}
	}
	if a.Is4() || a == netip.IPv6Loopback() {
		return worst
	}
	return max(worst, reachWithin(a))
}

// reachWithin returns the worst reach of the IPv4 addresses in an IPv6 address.
func reachWithin(a netip.Addr) reach {
	worst, all := public, a.As16()
	for _, c := range carriers {
		if !c.net.Contains(a) {
			continue
		}
		in := [4]byte(all[c.at:])
		if c.inverted {
			for i := range in {
				in[i] = ^in[i]
			}
		}
		worst = max(worst, reachOf(netip.AddrFrom4(in)))
	}
	if id := [4]byte(all[8:]); id == [4]byte{0, 0, 0x5e, 0xfe} || id == [4]byte{2, 0, 0x5e, 0xfe} { // ISATAP
		worst = max(worst, reachOf(netip.AddrFrom4([4]byte(all[12:]))))
	}
	return worst
}
