package rest

import (
	"bufio"
	"io"
	"net/http"
	"strings"
)

// isFramed reports whether a request with a gRPC content type has a framed body: its first byte is a
// flag of 0 or 1. Anything else under that label, JSON above all, is left for REST to read.
func isFramed(r *http.Request) bool {
	if !isGRPC(r) {
		return false
	}
	body := bufio.NewReader(r.Body)
	flag, err := body.Peek(1)
	r.Body = struct {
		io.Reader
		io.Closer
	}{body, r.Body}
	return err == nil && flag[0] <= 1
}

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}
