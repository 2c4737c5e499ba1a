package httpserver

import (
	"bufio"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

const (
	webType     = "application/grpc-web"
	webTextType = "application/grpc-web-text"
)

// webText speaks grpc-web-text for the handlers behind it: base64 of the binary framing, in chunks
// that each may be padded (gRPC-Web protocol, "base64 encoded").
func webText(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		suffix, ok := strings.CutPrefix(r.Header.Get("Content-Type"), webTextType)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		body := bufio.NewReader(r.Body)
		// The first byte of a frame is 0 or 1, so its base64 starts with A. Anything else, such as
		// JSON under this label, is passed on as it is.
		if first, err := body.Peek(1); err == nil && first[0] != 'A' {
			r.Body = readCloser{body, r.Body}
			next.ServeHTTP(w, r)
			return
		}
		r = r.Clone(r.Context())
		r.Header.Set("Content-Type", webType+suffix)
		r.ContentLength = -1
		r.Body = readCloser{&chunkDecoder{src: body}, r.Body}
		text := &textWriter{ResponseWriter: w}
		next.ServeHTTP(text, r)
		text.flush()
	})
}

type readCloser struct {
	io.Reader
	io.Closer
}

// chunkDecoder decodes a row of base64 texts, four characters at a time, so that padding may stand
// at the end of each.
type chunkDecoder struct {
	src     *bufio.Reader
	buffer  [3]byte
	decoded []byte // of buffer, still to be read
}

// Read implements io.Reader. It waits for a first byte only.
func (d *chunkDecoder) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(d.decoded) == 0 {
			if n > 0 && d.src.Buffered() < 4 {
				return n, nil
			}
			if err := d.next(); err != nil {
				return n, err
			}
		}
		copied := copy(p[n:], d.decoded)
		n, d.decoded = n+copied, d.decoded[copied:]
	}
	return n, nil
}

// next decodes four characters.
func (d *chunkDecoder) next() error {
	var quantum [4]byte
	if _, err := io.ReadFull(d.src, quantum[:]); err != nil {
		return err
	}
	n, err := base64.StdEncoding.Decode(d.buffer[:], quantum[:])
	d.decoded = d.buffer[:n]
	return err
}

// textWriter encodes a gRPC-Web answer. It keeps up to two bytes back until the next write, so that
// padding stands only before a flush.
type textWriter struct {
	http.ResponseWriter
	encode      bool
	wroteHeader bool
	held        []byte
}

// WriteHeader implements http.ResponseWriter.
func (t *textWriter) WriteHeader(code int) {
	if !t.wroteHeader {
		t.wroteHeader = true
		if suffix, ok := strings.CutPrefix(t.Header().Get("Content-Type"), webType); ok {
			t.encode = true
			t.Header().Set("Content-Type", webTextType+suffix)
			t.Header().Del("Content-Length")
		}
	}
	t.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (t *textWriter) Write(p []byte) (int, error) {
	if !t.wroteHeader {
		t.WriteHeader(http.StatusOK)
	}
	if !t.encode {
		return t.ResponseWriter.Write(p)
	}
	t.held = append(t.held, p...)
	whole := len(t.held) / 3 * 3
	if err := t.writeText(t.held[:whole]); err != nil {
		return 0, err
	}
	t.held = t.held[whole:]
	return len(p), nil
}

// Flush implements http.Flusher.
func (t *textWriter) Flush() {
	if !t.wroteHeader {
		t.WriteHeader(http.StatusOK)
	}
	t.flush()
	_ = http.NewResponseController(t.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (t *textWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *textWriter) flush() {
	_ = t.writeText(t.held) // a client that went away has nobody to tell
	t.held = nil
}

func (t *textWriter) writeText(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := t.ResponseWriter.Write(base64.StdEncoding.AppendEncode(nil, p))
	return err
}
