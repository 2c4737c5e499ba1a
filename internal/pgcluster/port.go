package pgcluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

const loopback = "127.0.0.1"

// firstPort is above those of common servers.
const firstPort = 10000

// freePort picks a port that nobody listens on. The system gives no such port to a connection that
// somebody opens: that would be in the way of a server that starts again, and it could be the
// connection of a client of that server to itself.
func freePort() (int, error) {
	last := 32767 // Linux's default
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if first, err := firstNumber(string(text)); err == nil && first > firstPort+1000 {
			last = first - 1
		}
	}
	for range 1000 {
		port := firstPort + rand.IntN(last-firstPort+1)
		if isFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free on %s", firstPort, last, loopback)
}

func firstNumber(s string) (n int, err error) {
	_, err = fmt.Sscan(s, &n)
	return n, err
}

func isFree(port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	return err == nil && listener.Close() == nil
}
