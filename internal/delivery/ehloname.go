package delivery

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// nameFor returns the EHLO argument for a connection: our name, or the address literal that
// RFC 5321, section 4.1.4 asks for when there is no good name.
func (t *Transport) nameFor(conn net.Conn) string {
	if name := t.ehloName(); ValidEHLOName(name) {
		return name
	}
	ip, ok := ipOf(conn.LocalAddr())
	switch {
	case !ok:
		return "[127.0.0.1]"
	case ip.Is6():
		return "[IPv6:" + ip.String() + "]"
	}
	return "[" + ip.String() + "]"
}

// ValidEHLOName reports whether a name may be told to remote servers: a domain name with at least
// two labels that is not one of the local ones.
func ValidEHLOName(name string) bool {
	labels := strings.Split(strings.ToLower(name), ".")
	last := labels[len(labels)-1]
	if len(name) > 253 || len(labels) < 2 || last == "localhost" || last == "localdomain" || isNumber(last) {
		return false
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label || strings.ContainsFunc(label, notLDH) {
			return false
		}
	}
	return true
}

func notLDH(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

// machineName returns this machine's qualified name, or whatever name it has. It is looked up once.
var machineName = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil || ValidEHLOName(name) {
		return name
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	qualified, err := net.DefaultResolver.LookupCNAME(ctx, name)
	if err != nil {
		return name
	}
	return strings.TrimSuffix(qualified, ".")
})
