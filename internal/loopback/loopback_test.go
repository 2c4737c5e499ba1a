package loopback_test

import (
	"net"
	"os"
	"strings"
	"testing"

	"fmt"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

// TestFreePort checks that the system gives no such port to a connection.
func TestFreePort(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Skip("this is not Linux:", err)
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		port, err := loopback.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if port >= first && port <= last {
			t.Errorf("the system may give port %d to a connection (%s)", port, strings.TrimSpace(string(text)))
		}
	}
}

func TestIsFree(t *testing.T) {
	port, err := loopback.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", loopback.Address(port))
	if err != nil {
		t.Fatal(err)
	}
	if loopback.IsFree(port) {
		t.Error("a port is free that is listened on")
	}
	listener.Close()
	if !loopback.IsFree(port) {
		t.Error("a port is not free that nobody listens on")
	}
}
