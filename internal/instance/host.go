package instance

import (
	"net/netip"
	"strings"
)

// Normalize returns the name or address in the host of a request, or in a domain of an instance, as they
// are compared: without port and brackets, without a dot at the end, in lower case. Internationalised names
// stay in the form that they have on the wire (RFC 5890, A-labels).
func Normalize(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host, _, _ = strings.Cut(inner, "]")
	} else if name, port, ok := strings.Cut(host, ":"); ok && !strings.Contains(port, ":") {
		host = name // with more colons it is an address of IPv6
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// loopback reports whether a normalized host is this machine, as it calls itself.
func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// validDomain reports whether a normalized domain can be a host: an address, or letters, digits and hyphens.
func validDomain(domain string) bool {
	if addr, err := netip.ParseAddr(domain); err == nil {
		return addr.Zone() == "" && addr.String() == domain
	}
	return len(domain) <= 253 && validLabels(domain)
}

func validLabels(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}
