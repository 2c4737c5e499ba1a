// Package loopback finds ports for the servers of tests.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// Host is the address that such servers listen on.
const Host = "127.0.0.1"

// firstPort is above those of common servers.
const firstPort = 10000

// FreePort picks a port that nobody listens on, for a server that gives it up for a while and wants it
// back. Ports that net.Listen picks by itself are no good for that: the system may give them meanwhile to
// a connection that somebody opens, even to that of a client which is looking for this very server, and
// is then connected to itself.
func FreePort() (int, error) {
	last := 32767 // Linux's default
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var first int
		if _, err := fmt.Sscan(string(text), &first); err == nil && first > firstPort+1000 {
			last = first - 1
		}
	}
	for range 1000 {
		port := firstPort + rand.IntN(last-firstPort+1)
		if IsFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free on %s", firstPort, last, Host)
}

// IsFree says whether a server could listen on a port.
func IsFree(port int) bool {
	listener, err := net.Listen("tcp", Address(port))
	return err == nil && listener.Close() == nil
}

// Address is host:port.
func Address(port int) string { return net.JoinHostPort(Host, strconv.Itoa(port)) }
