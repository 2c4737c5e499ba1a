package httpserver_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/internal/httpserver/webtexttest"
)

const (
	limit      = 64 << 10 // of every method but SendMessage
	largeLimit = 5 << 20
)

// form is a way to send one message.
type form struct {
	name    string
	version int  // of HTTP
	rest    bool // on the REST path
	header  http.Header
	json    bool
	body    func(message string) string
}

func plain(message string) string { return message }

func zipped(message string) string {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write([]byte(message)) // a buffer takes all
	_ = z.Close()
	return out.String()
}

func framed(flag byte, message string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message)))) + message
}

func inFrame(message string) string  { return framed(0, message) }
func inZipped(message string) string { return framed(1, zipped(message)) }
func inText(message string) string {
	return base64.StdEncoding.EncodeToString([]byte(inFrame(message)))
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// forms are every protocol, compressed and not.
func forms() []form {
	const ct = "Content-Type"
	return []form{
		{"connect json", 1, false, header(ct, "application/json"), true, plain},
		{"connect proto", 2, false, header(ct, "application/proto"), false, plain},
		{"connect gzip", 1, false, header(ct, "application/proto", "Content-Encoding", "gzip"), false, zipped},
		{"grpc", 2, false, header(ct, "application/grpc"), false, inFrame},
		{"grpc gzip", 2, false, header(ct, "application/grpc", "Grpc-Encoding", "gzip"), false, inZipped},
		{"web", 1, false, header(ct, "application/grpc-web+proto"), false, inFrame},
		{"web json", 2, false, header(ct, "application/grpc-web+json"), true, inFrame},
		{"web gzip", 1, false, header(ct, "application/grpc-web", "Grpc-Encoding", "gzip"), false, inZipped},
		{"web text", 1, false, header(ct, "application/grpc-web-text"), false, inText},
		{"rest", 1, true, header(ct, "application/json"), true, plain},
		{"rest gzip", 2, true, header("Content-Encoding", "gzip"), true, zipped},
		{"grpc on REST", 2, true, header(ct, "application/grpc"), false, inFrame},
		{"web on REST", 1, true, header(ct, "application/grpc-web"), false, inFrame},
		{"web gzip on REST", 1, true, header(ct, "application/grpc-web", "Grpc-Encoding", "gzip"), false, inZipped},
		{"web text on REST", 1, true, header(ct, "application/grpc-web-text"), false, inText},
	}
}

// target is a method to send messages to.
type target struct {
	name, procedure, route string
	limit                  int
}

var targets = []target{
	{"SendMessage", "/mailkeep.v1.MessageService/SendMessage", "/v1/messages", largeLimit},
	{"ListMessages", "/mailkeep.v1.MessageService/ListMessages", "/v1/messages/_search", limit},
}

func (to target) url(base string, f form) string {
	if f.rest {
		return base + to.route
	}
	return base + to.procedure
}

// message returns one of exactly this many bytes; both requests have a tag.
func (to target) message(t *testing.T, json bool, size int) string {
	t.Helper()
	if json {
		return `{"tag":"x"}` + strings.Repeat(" ", size-len(`{"tag":"x"}`))
	}
	padding := size
	for {
		var m proto.Message = &mailkeepv1.ListMessagesRequest{Tag: strings.Repeat("x", padding)}
		if to.name == "SendMessage" {
			m = &mailkeepv1.SendMessageRequest{Tag: strings.Repeat("x", padding)}
		}
		text, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) == size {
			return string(text)
		}
		padding -= len(text) - size
	}
}

var webStatus = regexp.MustCompile(`(?i)grpc-status: ?(\d+)`)

// verdict is "ok" or "exhausted" in whatever protocol; anything else is the answer itself.
func verdict(res *http.Response, body string) string {
	status := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status")
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc-web-text") {
		decoded, _ := io.ReadAll(webtexttest.NewDecoder(strings.NewReader(body))) // what is wrong is missed in the outcome
		body = string(decoded)
	}
	if found := webStatus.FindStringSubmatch(body); status == "" && found != nil {
		status = found[1]
	}
	isGRPC := strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc")
	switch {
	case isGRPC && status == "0", !isGRPC && res.StatusCode == http.StatusOK:
		return "ok"
	case isGRPC && status == "8",
		res.StatusCode == http.StatusTooManyRequests && strings.Contains(body, "larger than configured max"):
		return "exhausted"
	}
	return res.Status + " " + status + " " + body
}

// TestLimits sends the largest message that each method takes, and one with a byte more.
func TestLimits(t *testing.T) {
	url := serve(t, messages{}, 0)
	for _, f := range forms() {
		c := client(t, f.version)
		for _, to := range targets {
			for extra, want := range []string{"ok", "exhausted"} {
				message := to.message(t, f.json, to.limit+extra)
				res, body := post(t, c, to.url(url, f), f.header, f.body(message))
				if got := verdict(res, body); got != want {
					t.Errorf("%s over %s with %d bytes: %.200s, want %s", to.name, f.name, len(message), got, want)
				}
			}
		}
	}
}

// TestBombs sends a little that would be much.
func TestBombs(t *testing.T) {
	url := serve(t, messages{}, 0)
	const size = 64 << 20
	bomb := zipped(strings.Repeat(" ", size))
	for _, f := range forms() {
		var body string
		switch {
		case strings.HasPrefix(f.body("x"), "\x1f\x8b"):
			body = bomb
		case strings.HasPrefix(f.body("x"), "\x01"):
			body = framed(1, bomb)
		default:
			continue
		}
		c := client(t, f.version)
		for _, to := range targets {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			res, answer := post(t, c, to.url(url, f), f.header, body)
			runtime.ReadMemStats(&after)
			if got := verdict(res, answer); got != "exhausted" {
				t.Errorf("%s over %s: %.200s", to.name, f.name, got)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > size {
				t.Errorf("%s over %s took %d bytes of memory", to.name, f.name, used)
			}
		}
	}
}

// TestWholeBody has bodies that never come to their message: they are not read to their end.
func TestWholeBody(t *testing.T) {
	url := serve(t, messages{}, 0)
	for _, to := range targets {
		sent := &counter{Reader: io.LimitReader(io.MultiReader(strings.NewReader("AAAA"), lineBreaks{}), 64<<20)}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+to.procedure, sent)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/grpc-web-text")
		res, err := client(t, 1).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got := verdict(res, string(body)); got != "exhausted" {
			t.Errorf("%s: %s", to.name, got)
		}
		// The rest is in the buffers of the connection.
		if most, got := int64(to.limit+to.limit/3+64<<10+16<<20), sent.read.Load(); got > most {
			t.Errorf("%s let %d bytes come, want at most %d", to.name, got, most)
		}
	}
}

// lineBreaks are nothing to base64.
type lineBreaks struct{}

func (lineBreaks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}

type counter struct {
	io.Reader
	read atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read.Add(int64(n))
	return n, err
}
