//go:build !linux

package sqlstore

import (
	"net"
	"time"
)

// dialer returns how PostgreSQL's hosts are connected to.
func dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout:         timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
	}
}
