package httpserver

import (
	"bytes"
	"net"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
)

// TestSlowReader has a client that asks and never reads: it does not keep its connection.
func TestSlowReader(t *testing.T) {
	ended := make(chan error, 1)
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		var err error
		for range 256 { // far more than the buffers of a connection hold
			if _, err = w.Write(chunk); err != nil {
				break
			}
		}
		ended <- err
	})
	server := &http.Server{
		Handler: NewHandler(connect.NewServer(), Options{
			Pages: map[string]http.Handler{"/page": page}, WriteTimeout: 100 * time.Millisecond,
		}),
		ReadHeaderTimeout: time.Second,
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }() // ends with Close
	defer func() { _ = server.Close() }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("everything was written to a client that reads nothing")
		}
	case <-time.After(10 * time.Second):
		t.Error("the write to a client that reads nothing still waits")
	}
}
