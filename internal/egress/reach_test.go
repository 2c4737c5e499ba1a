package egress

import (
	"net/netip"
	"testing"
)

// TestCarriers: an IPv4 address is as far away within an IPv6 one as by itself, whatever carries it.
func TestCarriers(t *testing.T) {
	tried := 0
	for _, k := range known {
		if !k.net.Addr().Is4() {
			continue
		}
		first := k.net.Addr().As4()
		last := first
		for bit := k.net.Bits(); bit < 32; bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		for _, in := range [][4]byte{first, last} {
			alone := reachOf(netip.AddrFrom4(in))
			if alone < k.reach {
				t.Errorf("%v is %d", in, alone)
			}
			for _, c := range carriers {
				a := c.net.Addr().As16()
				for i, b := range in {
					if c.inverted {
						b = ^b
					}
					a[c.at+i] = b
				}
				tried++
				if within := netip.AddrFrom16(a); reachOf(within) < alone {
					t.Errorf("%v within %s is %d, alone %d", in, within, reachOf(within), alone)
				}
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d", tried)
	}
}
