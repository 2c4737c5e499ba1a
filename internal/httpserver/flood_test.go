package httpserver_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/httpserver"
)

const (
	// flooded is what a flood sends at most, in bytes: more than twice what a connection may.
	flooded = 640 << 10
	// floodMemory is what a flood may take of memory, in bytes.
	floodMemory = 32 << 20
	patience    = 30 * time.Second
)

// requests are those that were begun, and those being answered.
type requests struct{ begun, busy atomic.Int64 }

// page is larger than the buffers of an answer.
var page = bytes.Repeat([]byte("page "), 16<<10)

// serveBounded serves a page as the service would, with the bounds if wanted, and returns the address and what
// becomes of requests.
func serveBounded(t *testing.T, bounds *httpserver.Connections, adjust func(*http.Server)) (addr string, seen *requests) {
	t.Helper()
	seen = new(requests)
	rpc := connect.NewServer()
	mailkeepv1connect.RegisterMessageServiceHandler(rpc, messages{watch: func(stream mailkeepv1connect.MessageServiceWatchMessagesServerStream) error {
		for {
			if err := stream.Send(&mailkeepv1.WatchMessagesResponse{Message: &mailkeepv1.Message{Reason: mark}}); err != nil {
				return err
			}
		}
	}})
	handler := httpserver.NewHandler(rpc, httpserver.Options{Pages: map[string]http.Handler{
		"/page": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			seen.begun.Add(1)
			seen.busy.Add(1)
			defer seen.busy.Add(-1)
			_, _ = w.Write(page) // a client that went away has nobody to tell
		}),
	}})
	server := httpserver.New(handler, slog.New(slog.DiscardHandler))
	if adjust != nil {
		adjust(server)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	if bounds != nil {
		l = bounds.Listen(l)
	}
	go func() { _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return addr, seen
}

// flooder is a client that speaks HTTP/2 by hand.
type flooder struct {
	net.Conn
	out     *bufio.Writer
	written int
	frames  *http2.Framer
	ended   chan struct{} // closed when the server has ended the connection
	pongs   chan struct{}

	messages atomic.Int64 // that have the mark
}

// mark is in each message of a stream.
const mark = "a message of a stream"

func dialFlooder(t *testing.T, addr string, settings ...http2.Setting) *flooder {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	f := &flooder{Conn: c, ended: make(chan struct{}), pongs: make(chan struct{}, 1)}
	f.out = bufio.NewWriterSize(f, 16<<10)
	f.frames = http2.NewFramer(f.out, c)
	_, err = f.out.WriteString(http2.ClientPreface)
	if err = errors.Join(err, f.frames.WriteSettings(settings...), f.out.Flush()); err != nil {
		t.Fatal(err)
	}
	go f.read()
	return f
}

// Write implements io.Writer.
func (f *flooder) Write(p []byte) (int, error) {
	n, err := f.Conn.Write(p)
	f.written += n
	return n, err
}

// read takes whatever the server says, so that it is not the full buffers of a connection that end a flood.
func (f *flooder) read() {
	defer close(f.ended)
	for {
		frame, err := f.frames.ReadFrame()
		var stream http2.StreamError
		switch {
		case errors.As(err, &stream):
		case err != nil:
			return
		}
		if ping, ok := frame.(*http2.PingFrame); ok && ping.Data == last {
			f.pongs <- struct{}{}
		}
		if data, ok := frame.(*http2.DataFrame); ok {
			f.messages.Add(int64(bytes.Count(data.Data(), []byte(mark))))
		}
	}
}

// last is what a ping says after a flood.
var last = [8]byte{'l', 'a', 's', 't'}

// survives reports whether the connection still answers when everything was sent.
func (f *flooder) survives(t *testing.T) bool {
	t.Helper()
	_ = f.frames.WritePing(false, last)
	_ = f.out.Flush() // that it ended is seen by reading
	select {
	case <-f.pongs:
		return true
	case <-f.ended:
		return false
	case <-time.After(patience):
		t.Error("the connection neither answers nor ends")
		return true
	}
}

func request(verb, path string) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", verb}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
		_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a buffer takes all
	}
	return block.Bytes()
}

// floods are what CVE-2019-9512 to 9518, CVE-2023-44487 and CVE-2024-27316 are about. Each is called for its
// n-th frame.
var floods = map[string]func(f *flooder, n uint32) error{
	"ping": func(f *flooder, _ uint32) error { return f.frames.WritePing(false, [8]byte{}) },
	"settings": func(f *flooder, n uint32) error {
		return f.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<16 + n%2})
	},
	"empty_data": func(f *flooder, n uint32) error {
		if n == 0 {
			return f.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: request("POST", "/x.Y/Z"), EndHeaders: true})
		}
		return f.frames.WriteData(1, false, nil)
	},
	"rapid_reset": func(f *flooder, n uint32) error {
		err := f.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: request("GET", "/page"), EndHeaders: true, EndStream: true})
		return errors.Join(err, f.frames.WriteRSTStream(2*n+1, http2.ErrCodeCancel))
	},
	"continuation": func(f *flooder, n uint32) error {
		if n == 0 {
			return f.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: request("GET", "/page")})
		}
		return f.frames.WriteContinuation(1, false, []byte("\x00\x01x\x08yyyyyyyy")) // RFC 7541, section 6.2.2
	},
	"window_update": func(f *flooder, _ uint32) error { return f.frames.WriteWindowUpdate(0, 1) },
	"priority": func(f *flooder, n uint32) error {
		return f.frames.WritePriority(2*n+1, http2.PriorityParam{StreamDep: 0, Weight: uint8(n)})
	},
}

// flood sends one and reports whether its connection survived, how many other requests were answered meanwhile,
// and how far the heap grew.
func flood(t *testing.T, addr string, send func(f *flooder, n uint32) error) (survived bool, served int, grown uint64) {
	t.Helper()
	done := make(chan bool, 1)
	f := dialFlooder(t, addr)
	before := heap()
	go func() {
		for n := uint32(0); f.written < flooded; n++ {
			if send(f, n) != nil {
				break
			}
		}
		done <- f.survives(t)
	}()
	c := &http.Client{Timeout: patience}
	defer c.CloseIdleConnections()
	for {
		res, err := c.Get("http://" + addr + "/page")
		if err != nil {
			t.Fatalf("another client during the flood: %v", err)
		}
		if n, err := io.Copy(io.Discard, res.Body); int(n) != len(page) || err != nil {
			t.Fatalf("another client during the flood: %d bytes, %v", n, err)
		}
		_ = res.Body.Close()
		served++
		now := heap()
		grown = max(grown, now-min(before, now))
		select {
		case survived := <-done:
			return survived, served, grown
		case <-time.After(time.Millisecond):
		}
	}
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestFloods: each kind of flood costs little memory, ends its connection, and others are served meanwhile. Red
// control: without the bounds most go on for as long as they like.
func TestFloods(t *testing.T) {
	bounded, _ := serveBounded(t, &httpserver.Connections{}, nil)
	free, _ := serveBounded(t, nil, nil)
	others, most, survivors := 0, uint64(0), []string{}
	for name, send := range floods {
		survived, served, grown := flood(t, bounded, send)
		if survived {
			t.Errorf("%s: the connection goes on", name)
		}
		if grown > floodMemory {
			t.Errorf("%s took %d bytes of memory", name, grown)
		}
		others, most = others+served, max(most, grown)
		if survived, _, _ := flood(t, free, send); survived {
			survivors = append(survivors, name)
		}
	}
	if len(survivors) < 3 {
		t.Errorf("without the bounds only %v go on: the test is too mild", survivors)
	}
	t.Logf("REL h2_floods kinds=%d ended=%d served=%d heap_growth_mib=%d red_control_survivors=%s",
		len(floods), len(floods), others, most>>20, strings.Join(survivors, ","))
}

// TestStalledWindow has a client that never lets its answers be written: they end. Red control: without a bound
// of calls they do not.
func TestStalledWindow(t *testing.T) {
	const streams, timeout = 100, 300 * time.Millisecond
	stall := func(timeout time.Duration) *requests {
		addr, seen := serveBounded(t, &httpserver.Connections{}, func(s *http.Server) { s.WriteTimeout = timeout })
		f := dialFlooder(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for n := range uint32(streams) {
			if err := f.frames.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 2*n + 1, BlockFragment: request("GET", "/page"), EndHeaders: true, EndStream: true,
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.out.Flush(); err != nil {
			t.Fatal(err)
		}
		until(t, "all requests have begun", func() bool { return seen.begun.Load() == streams })
		return seen
	}
	bounded, free := stall(timeout), stall(0)
	until(t, "the answers have ended", func() bool { return bounded.busy.Load() == 0 })
	if n := free.busy.Load(); n != streams {
		t.Errorf("without a bound %d of %d go on", n, streams)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for nothing until %s", what)
		}
	}
}

// TestConnections: those over a bound are closed, the others are served, and a place that is left is taken.
func TestConnections(t *testing.T) {
	for name, bounds := range map[string]httpserver.Connections{"of all": {Most: 3}, "of one address": {MostByRemote: 3}} {
		addr, _ := serveBounded(t, &bounds, nil)
		var open []net.Conn
		get := func() (net.Conn, error) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_, _ = c.Write([]byte("GET /page HTTP/1.1\r\nHost: x\r\n\r\n")) // what fails is seen by reading
			_, err = bufio.NewReader(c).ReadByte()
			return c, err
		}
		for range 3 {
			c, err := get()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			open = append(open, c)
		}
		if _, err := get(); err == nil {
			t.Errorf("%s: one too many is served", name)
		}
		_ = open[0].Close()
		until(t, "the place of a connection that ended is taken", func() bool { _, err := get(); return err == nil })
	}
}

// TestPingedStream: a client may ping with each message of a stream for as long as that lasts.
func TestPingedStream(t *testing.T) {
	const messages = flooded / 17 // more than a connection may send besides
	addr, _ := serveBounded(t, &httpserver.Connections{}, nil)
	f := dialFlooder(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/mailkeep.v1.MessageService/WatchMessages"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // a buffer takes all
	}
	err := f.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	err = errors.Join(err, f.frames.WriteWindowUpdate(0, 1<<30), f.frames.WriteData(1, true, make([]byte, 5)))
	for n := 0; n < messages && err == nil; n++ {
		err = f.frames.WritePing(false, [8]byte{})
		if n%100 == 0 {
			err = errors.Join(err, f.out.Flush())
			until(t, "the message is there", func() bool { return f.messages.Load() >= int64(n) })
		}
	}
	if err != nil || !f.survives(t) {
		t.Errorf("the connection ended: %v", err)
	}
}

// TestManyCalls: a connection that only makes calls may go on for ever.
func TestManyCalls(t *testing.T) {
	addr, _ := serveBounded(t, &httpserver.Connections{}, nil)
	for _, version := range []int{1, 2} {
		c := client(t, version)
		body := strings.Repeat("x", 60<<10)
		for range 50 { // far more than a connection may send besides
			if res, _ := post(t, c, "http://"+addr+"/x.Y/Z", header("Content-Type", "application/json"), body); res.StatusCode != http.StatusNotFound {
				t.Fatalf("HTTP/%d: %s", version, res.Status)
			}
		}
	}
}
