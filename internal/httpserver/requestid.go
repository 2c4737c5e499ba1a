package httpserver

import (
	"crypto/rand"
	"net/http"
)

const requestIDHeader = "X-Request-Id"

// maxRequestID is the length of the longest request id that is taken from a client.
const maxRequestID = 64

// requestID returns the id that a request has, by which a proxy's log and ours can be laid side by side, or
// a new one if it has none that is fit for logs.
func requestID(r *http.Request) string {
	if given := r.Header[requestIDHeader]; len(given) == 1 && validRequestID(given[0]) {
		return given[0]
	}
	return rand.Text()
}

// validRequestID takes what UUIDs, trace ids and their like are made of.
func validRequestID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxRequestID
}
