package httpserver_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/httpserver"
)

// TestDrips has clients that send a byte now and then, and one that sends nothing: none keeps its connection. Red
// control: without the timeouts all do. The timeouts are those of the service, made shorter.
func TestDrips(t *testing.T) {
	const shorter, pause = 25, 20 * time.Millisecond
	bounded, _ := serveBounded(t, &httpserver.Connections{}, func(s *http.Server) {
		s.ReadHeaderTimeout /= shorter
		s.ReadTimeout /= shorter
		s.IdleTimeout /= 4 * shorter
	})
	free, _ := serveBounded(t, nil, func(s *http.Server) { s.ReadHeaderTimeout, s.ReadTimeout, s.IdleTimeout = 0, 0, 0 })
	for name, c := range map[string]struct{ at, drip string }{
		"nothing": {"", ""},
		"headers": {"GET /page HTTP/1.1\r\nHost: x\r\nX-Long: ", "y"},
		"body": {"POST /mailkeep.v1.MessageService/SendMessage HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
			"Content-Length: 60000\r\n\r\n", " "},
		"between calls": {"POST /mailkeep.v1.MessageService/SendMessage HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
			"Content-Length: 2\r\n\r\n{}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drips := func(addr string, atMost time.Duration) (ended bool) {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				gone := make(chan struct{})
				go func() {
					_, _ = io.Copy(io.Discard, conn) // until it is closed
					close(gone)
				}()
				_, err = io.Copy(conn, strings.NewReader(c.at))
				for end := time.Now().Add(atMost); err == nil && time.Now().Before(end); {
					select {
					case <-gone:
						return true
					case <-time.After(pause):
						_, err = io.WriteString(conn, c.drip)
					}
				}
				return err != nil
			}
			if !drips(bounded, patience) {
				t.Error("the connection is still there")
			}
			if drips(free, time.Second) {
				t.Error("without timeouts the connection ends too")
			}
		})
	}
}
