package httpserver

import (
	"cmp"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/mailkeep/mailkeep/internal/rpc"
)

const requestIDHeader = "X-Request-Id"

// observe gives each request its rpc.Call and id, and writes one line about it when it has been
// answered, unless log is nil.
func observe(log *slog.Logger, timeout time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := &rpc.Call{RequestID: rand.Text(), Started: time.Now(), Host: r.Host}
		w.Header().Set(requestIDHeader, call.RequestID)
		recorder := &recorder{ResponseWriter: w}
		if r.ProtoMajor == 1 {
			recorder.timeout = timeout
		}
		recorder.extend()
		next.ServeHTTP(recorder, r.WithContext(rpc.WithCall(r.Context(), call)))
		drain(w, r)
		if log != nil {
			logAccess(log, call, r, cmp.Or(recorder.status, http.StatusOK))
		}
	})
}

// drain reads what is left of a small body before the answer ends. HTTP/2 would else reset the stream
// (RFC 9113, section 8.1), and curl before version 8 takes that for a failed call.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.ContentLength <= 0 || r.ContentLength > maxBytes {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout))
	_, _ = io.CopyN(io.Discard, r.Body, maxBytes) // as far as it comes
}

// drainTimeout is how long the rest of a body may take that nobody wants any more.
const drainTimeout = 100 * time.Millisecond

// logAccess writes the access line. A path is logged only for what was no call: it may hold anything.
func logAccess(log *slog.Logger, call *rpc.Call, r *http.Request, status int) {
	message, protocol := "request", "http"
	if call.Code != "" {
		message, protocol = "call", call.Protocol
	}
	attributes := append(make([]slog.Attr, 0, 10),
		slog.String("request_id", call.RequestID), slog.String("protocol", protocol), slog.Int("status", status),
		slog.Duration("duration", time.Since(call.Started)))
	if call.Code == "" {
		attributes = append(attributes, slog.String("verb", r.Method), slog.String("path", cut(r.URL.Path, 200)))
	} else {
		attributes = append(attributes, slog.String("method", call.Procedure), slog.String("instance", call.Caller.Instance),
			slog.String("caller", call.Caller.Name), slog.String("code", call.Code))
	}
	if call.ErrorID != "" {
		attributes = append(attributes, slog.String("error_id", call.ErrorID))
	}
	log.LogAttrs(r.Context(), slog.LevelInfo, message, attributes...)
}

func cut(s string, most int) string {
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// recorder notes the status of the answer.
type recorder struct {
	http.ResponseWriter
	status  int
	timeout time.Duration // for the client to read each write; 0 for HTTP/2, which has one of its own
}

// writeTimeout is how long a client may take to read what was written.
const writeTimeout = 30 * time.Second

// extend gives the client time to read the next write. On HTTP/2 a deadline would end a stream that
// has nothing to say for a while.
func (r *recorder) extend() {
	if r.timeout > 0 {
		_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(r.timeout))
	}
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	if r.status == 0 && code >= 200 {
		r.status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.extend()
	return r.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
