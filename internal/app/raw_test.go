package app_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
)

// raw is a request as bytes on the wire would make it.
type raw struct {
	verb, path string
	header     map[string]string
	body       string
}

// reply is an answer to one.
type reply struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
}

// send sends a request with the admin token, unless the request has an Authorization of its own.
func (s *service) send(t *testing.T, client *http.Client, q raw) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), q.verb, s.URL(), strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	// As it is: url.Parse would refuse or clean what an attacker sends.
	path, query, _ := strings.Cut(q.path, "?")
	r.URL.Opaque, r.URL.RawQuery = path, query
	r.Header.Set("Authorization", "Bearer "+adminToken)
	for name, value := range q.header {
		r.Header.Set(name, value)
		if value == "" {
			r.Header.Del(name)
		}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", q.verb, q.path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", q.verb, q.path, err)
	}
	return reply{res.StatusCode, res.Header, res.Trailer, string(body)}
}

// frame puts a message into the framing of gRPC and gRPC-Web.
func frame(message []byte) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))) + string(message)
}

// unframe returns the messages and the text of the trailer frame.
func unframe(t *testing.T, body string) (messages [][]byte, trailer string) {
	t.Helper()
	b := bytes.NewBufferString(body)
	for b.Len() > 0 {
		head := b.Next(5)
		if len(head) < 5 || int(binary.BigEndian.Uint32(head[1:])) > b.Len() {
			t.Fatalf("not framed: %q", body)
		}
		content := b.Next(int(binary.BigEndian.Uint32(head[1:])))
		if head[0]&0x80 != 0 {
			trailer = string(content)
			continue
		}
		messages = append(messages, content)
	}
	return messages, trailer
}
