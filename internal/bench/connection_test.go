package main

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func connect(t *testing.T, handler http.HandlerFunc) *connection {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	r, err := http.NewRequest(http.MethodPost, server.URL+"/path", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	wire, err := requestBytes(r)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), server.Listener.Addr().String(), time.Now().Add(patience), wire)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConnectionIsUsedAgain(t *testing.T) {
	var peers []string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		peers = append(peers, r.RemoteAddr)
		body := make([]byte, 9)
		n, _ := r.Body.Read(body)
		if r.Method != http.MethodPost || r.URL.Path != "/path" || string(body[:n]) != "body" {
			http.Error(w, "not the request", http.StatusBadRequest)
		}
		answer := make([]byte, 5000*len(peers)%7001) // more than a buffer has, or less
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
	})
	for i := range 5 {
		if err := c.call(); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if len(peers) != 5 || peers[0] != peers[4] {
		t.Errorf("the calls came from %v, want five from one", peers)
	}
}

func TestConnectionWantsOK(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"status": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such token", http.StatusUnauthorized) }, "no such token"},
		"chunks": {func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }, "no Content-Length"},
		"cut":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		if err := connect(t, test.handler).call(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestConnectionAllocatesNothing is why allocations of the process are those of the service.
func TestConnectionAllocatesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go echo(l)
	c, err := dial(t.Context(), l.Addr().String(), time.Now().Add(patience),
		[]byte("HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 4\r\n\r\nbody"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	allocs := testing.AllocsPerRun(100, func() {
		if err := c.call(); err != nil {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a call", allocs)
	}
}

// echo answers the first connection with what it sends.
func echo(l net.Listener) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	buffer := make([]byte, 1000)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestLoad(t *testing.T) {
	c := connect(t, func(http.ResponseWriter, *http.Request) {})
	l := load{callers: 2, length: 20 * time.Millisecond, dial: func(ctx context.Context, deadline time.Time) (caller, error) {
		return dial(ctx, c.RemoteAddr().String(), deadline, c.request)
	}}
	s, err := l.measure(t.Context())
	if err != nil || s.value < 10 || s.allocs < 1 {
		t.Errorf("%+v, %v, want some calls a second, each with some allocations", s, err)
	}
	l.worth = 1000
	if _, total, err := l.run(t.Context()); err != nil || total < 1000 || total%1000 != 0 {
		t.Errorf("%d calls, %v, want thousands", total, err)
	}
	l.length = 1 // a nanosecond, in which no call is answered
	if s, err := l.measure(t.Context()); err != nil || math.IsInf(s.allocs, 0) || s.value <= 0 {
		t.Errorf("%+v, %v, want figures of at least one call", s, err)
	}
	l.dial = func(ctx context.Context, deadline time.Time) (caller, error) {
		return dial(ctx, c.RemoteAddr().String(), deadline, []byte("GET / HTTP/9.9\r\n\r\n"))
	}
	if _, err := l.measure(t.Context()); err == nil {
		t.Error("a load of calls that fail has a result")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := l.measure(ended); err == nil {
		t.Error("a load that was cut short has a result")
	}
}
