package rest

import (
	"io"
	"net/http"
	"strings"
)

// framedBody is a request body whose first byte was looked at.
type framedBody struct {
	io.ReadCloser
	first  byte
	unread bool
}

// peekFrame reports whether a request with a gRPC content type has a framed body: its first byte is
// a flag of 0 or 1. Anything else under that label, JSON above all, is left for REST to read.
func peekFrame(r *http.Request) (*framedBody, bool) {
	if !isGRPC(r) {
		return nil, false
	}
	body := &framedBody{ReadCloser: r.Body}
	var first [1]byte
	if _, err := io.ReadFull(r.Body, first[:]); err != nil {
		return nil, false
	}
	body.first, body.unread = first[0], true
	r.Body = body
	return body, first[0] <= 1
}

// Read implements io.Reader.
func (b *framedBody) Read(p []byte) (int, error) {
	if b.unread && len(p) > 0 {
		p[0], b.unread = b.first, false
		return 1, nil
	}
	return b.ReadCloser.Read(p)
}

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}
