package httpserver

import (
	"net/http"
	"net/netip"
	"strings"
)

// host returns the host that a request is for: its authority, unless it came from a trusted proxy that says
// more, in one of these headers, the first that is there. Of several values the last one counts, which is
// what the proxy itself has added; a value that can't be read is no host, and nobody's.
func (o Options) host(r *http.Request) string {
	if len(o.TrustedProxies) == 0 || !o.trusts(r.RemoteAddr) {
		return r.Host
	}
	if values := r.Header.Values("X-Zitadel-Instance-Host"); len(values) > 0 {
		return lastOf(values)
	}
	if values := r.Header.Values("Forwarded"); len(values) > 0 {
		if host, ok := forwardedHost(values[len(values)-1]); ok {
			return host
		}
	}
	if values := r.Header.Values("X-Forwarded-Host"); len(values) > 0 {
		return lastOf(values)
	}
	return r.Host
}

// trusts reports whether the peer is in a network of trusted proxies.
func (o Options) trusts(peer string) bool {
	at, err := netip.ParseAddrPort(peer)
	if err != nil {
		return false
	}
	addr := at.Addr().Unmap().WithZone("")
	for _, network := range o.TrustedProxies {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// lastOf returns the last of the values of a header, each of which may be a list.
func lastOf(values []string) string {
	last := values[len(values)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}

// forwardedHost returns the host of the last element of a Forwarded header (RFC 7239), and whether it has
// one. A header that is not well-formed has an empty one.
func forwardedHost(header string) (host string, ok bool) {
	for rest := header; rest != ""; {
		name, after, found := strings.Cut(rest, "=")
		if !found {
			return "", true
		}
		value, separator, remains, valid := forwardedValue(after)
		if !valid {
			return "", true
		}
		if strings.EqualFold(strings.TrimSpace(name), "host") {
			host, ok = value, true
		}
		if separator == ',' { // what comes is another proxy's
			host, ok = "", false
		}
		rest = remains
	}
	return host, ok
}

// forwardedValue takes a token or a quoted string, and the separator after it, 0 at the end.
func forwardedValue(in string) (value string, separator byte, rest string, valid bool) {
	in = strings.TrimLeft(in, " \t")
	if quoted, ok := strings.CutPrefix(in, `"`); ok {
		value, in, valid = strings.Cut(quoted, `"`)
		if !valid || strings.Contains(value, `\`) { // no host has an escape
			return "", 0, "", false
		}
	} else {
		end := strings.IndexAny(in, ";,")
		if end < 0 {
			end = len(in)
		}
		value, in = strings.TrimSpace(in[:end]), in[end:]
		if strings.ContainsAny(value, "\"= \t") {
			return "", 0, "", false
		}
	}
	in = strings.TrimLeft(in, " \t")
	if in == "" {
		return value, 0, "", true
	}
	if in[0] != ';' && in[0] != ',' {
		return "", 0, "", false
	}
	return value, in[0], strings.TrimLeft(in[1:], " \t"), true
}
