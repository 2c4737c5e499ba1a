package emailprovider

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// FuzzCheckHostPort holds what is accepted as host:port to what makes it one address and nothing else, for
// whoever reads it: net, a URL, a log.
func FuzzCheckHostPort(f *testing.F) {
	for _, s := range []string{
		"smtp.example.com:587", "localhost:25", "127.0.0.1:1", "[::1]:465", "[fe80::1%eth0]:25", "[::ffff:10.0.0.1]:25", "host", "host:", ":25", "host:0",
		"host:65536", "host:+25", "host:025", "a:25:25", "user@host:25", "host:25/path", "host :25", "host\n:25", "bücher.example:25", "h.:25", "-h:25",
		"0x7f.1:25", "[1.2.3.4]:25", "[::1:25", "::1:25", "host:２５",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkHostPort(s) != "" {
			return
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil || net.JoinHostPort(host, port) != s {
			t.Fatalf("%q: %q, %q, %v", s, host, port, err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
			t.Errorf("%q: port %q", s, port)
		}
		if ip, err := netip.ParseAddr(host); err != nil && (len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool { return r != '.' && !isHostRune(r) })) || ip.Zone() != "" {
			t.Errorf("%q: host %q", s, host)
		}
		if u, err := url.Parse("smtp://" + s + "/"); err != nil || u.Host != s || u.User != nil || u.Path != "/" {
			t.Errorf("%q as a URL: %v, %v", s, u, err)
		}
	})
}

// FuzzCheckURL holds what is accepted as an endpoint to what makes it go to one host, in the open.
func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{
		"https://example.com/hook?a=b", "http://127.0.0.1:8080", "http://[::1]:80/", "ftp://x", "//x", "http:x", "http://u:p@h/", "http://h#f", "http://h:0/",
		"http://h:/", "http://a\\@b/", "http://h/ x", "http://%68/", "HTTP://H", "http://a.b:80:80/", "http://[::1%25eth0]/", "http://?x", "http://h\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkURL(s) != "" {
			return
		}
		r, err := http.NewRequest(http.MethodPost, s, nil)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		u := r.URL
		if u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(u.Host, "@/\\ \r\n") {
			t.Errorf("%q goes to %q, %#v", s, u.Host, u)
		}
		if again, err := url.Parse(u.String()); err != nil || again.Host != u.Host || again.Scheme != u.Scheme {
			t.Errorf("%q is written as %q and then goes to %v, %v", s, u, again, err)
		}
	})
}
