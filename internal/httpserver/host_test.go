package httpserver

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

// TestHost is which host a request is for, and whom that is believed.
func TestHost(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}
	const trusted, stranger = "10.1.2.3:4711", "10.2.0.1:4711"
	type headers = [][2]string
	const own, zitadel, forwarded, xForwarded = "own.example:443", "X-Zitadel-Instance-Host", "Forwarded", "X-Forwarded-Host"
	for name, c := range map[string]struct {
		peer    string
		proxies []netip.Prefix
		headers headers
		want    string
	}{
		"nothing said":                       {trusted, proxies, nil, own},
		"our own header":                     {trusted, proxies, headers{{zitadel, "a.example"}, {forwarded, "host=b.example"}, {xForwarded, "c.example"}}, "a.example"},
		"Forwarded":                          {trusted, proxies, headers{{forwarded, "for=1.2.3.4;host=b.example;proto=https"}, {xForwarded, "c.example"}}, "b.example"},
		"Forwarded, quoted":                  {trusted, proxies, headers{{forwarded, `for="[2001:db8::1]:80"; Host="b.example:8443"`}}, "b.example:8443"},
		"Forwarded, several":                 {trusted, proxies, headers{{forwarded, "host=spoofed.example, for=1.2.3.4;host=b.example"}}, "b.example"},
		"Forwarded, several lines":           {trusted, proxies, headers{{forwarded, "host=spoofed.example"}, {forwarded, "host=b.example"}}, "b.example"},
		"Forwarded, the proxy's has no host": {trusted, proxies, headers{{forwarded, "host=spoofed.example, for=1.2.3.4"}}, own},
		"Forwarded without a host":           {trusted, proxies, headers{{forwarded, "for=1.2.3.4"}, {xForwarded, "c.example"}}, "c.example"},
		"Forwarded, a comma in quotes":       {trusted, proxies, headers{{forwarded, `for="a,host=spoofed.example";host=b.example`}}, "b.example"},
		"Forwarded, not well-formed":         {trusted, proxies, headers{{forwarded, "host"}, {xForwarded, "c.example"}}, ""},
		"Forwarded, an open quote":           {trusted, proxies, headers{{forwarded, `host="b.example`}}, ""},
		"Forwarded, an escape":               {trusted, proxies, headers{{forwarded, `host="b\.example"`}}, ""},
		"Forwarded, two values":              {trusted, proxies, headers{{forwarded, `host="b.example"x`}}, ""},
		"X-Forwarded-Host":                   {trusted, proxies, headers{{xForwarded, "c.example:80"}}, "c.example:80"},
		"X-Forwarded-Host, several":          {trusted, proxies, headers{{xForwarded, "spoofed.example, c.example"}}, "c.example"},
		"X-Forwarded-Host, empty":            {trusted, proxies, headers{{xForwarded, ""}}, ""},
		"a proxy over IPv6":                  {"[fd00::1%eth0]:80", proxies, headers{{xForwarded, "c.example"}}, "c.example"},
		"a proxy over mapped IPv4":           {"[::ffff:10.1.2.3]:80", proxies, headers{{xForwarded, "c.example"}}, "c.example"},
		"a stranger's own header":            {stranger, proxies, headers{{zitadel, "a.example"}}, own},
		"a stranger's Forwarded":             {stranger, proxies, headers{{forwarded, "host=b.example"}}, own},
		"a stranger's X-Forwarded-Host":      {stranger, proxies, headers{{xForwarded, "c.example"}}, own},
		"nobody is trusted":                  {trusted, nil, headers{{zitadel, "a.example"}, {forwarded, "host=b.example"}, {xForwarded, "c.example"}}, own},
		"a peer that has no address":         {"@", proxies, headers{{xForwarded, "c.example"}}, own},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host, r.RemoteAddr = own, c.peer
			for _, h := range c.headers {
				r.Header.Add(h[0], h[1])
			}
			if got := (Options{TrustedProxies: c.proxies}).host(r); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
