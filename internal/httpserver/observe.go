package httpserver

import (
	"cmp"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/mailkeep/mailkeep/internal/rpc"
)

// observe gives each request its rpc.Call and id, and writes one line about it when it has been
// answered, unless there is no log. Of denied calls only so many get a line.
func (o Options) observe(next http.Handler) http.Handler {
	var denied deniedLog
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &recorder{ResponseWriter: w, id: [1]string{requestID(r)}}
		recorder.call = rpc.Call{RequestID: recorder.id[0], Started: time.Now(), Host: o.host(r)}
		call := &recorder.call
		w.Header()[requestIDHeader] = recorder.id[:]
		m := o.Methods[r.URL.Path]
		if r.ProtoMajor == 1 || m != nil && m.Streams || m == nil && isProcedure(r) {
			recorder.timeout = cmp.Or(o.WriteTimeout, writeTimeout)
			recorder.perWrite, recorder.conn = r.ProtoMajor != 1, connOf(r)
		}
		if !recorder.perWrite {
			recorder.extend()
		}
		next.ServeHTTP(recorder, r.WithContext(rpc.WithCall(r.Context(), call)))
		recorder.extend() // for what is still in buffers
		drain(w, r)
		if o.Calls != nil && (call.Code != "" || recorder.status >= http.StatusBadRequest || recorder.Header().Get("Grpc-Status") != "") {
			o.Calls(call, time.Since(call.Started))
		}
		if o.Log == nil {
			return
		}
		suppressed, line := 0, true
		if isDenied(call) {
			suppressed, line = denied.line(deniedKey(call, r), time.Now())
		}
		if line {
			logAccess(o.Log, call, r, cmp.Or(recorder.status, http.StatusOK), suppressed)
		}
	})
}

// drain reads what is left of a small body before the answer ends. HTTP/2 would else reset the stream
// (RFC 9113, section 8.1), and curl before version 8 takes that for a failed call.
func drain(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.ContentLength <= 0 || r.ContentLength > maxDrained {
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout))
	_, _ = io.CopyN(io.Discard, r.Body, maxDrained) // as far as it comes
}

// Bounds of the rest of a body that nobody wants any more: a mail with attachments refused for its
// token is worth reading.
const (
	maxDrained   = 5 << 20 // bytes
	drainTimeout = 100 * time.Millisecond
)

// logAccess writes the access line. A path is logged only for what was no call: it may hold anything.
func logAccess(log *slog.Logger, call *rpc.Call, r *http.Request, status, suppressed int) {
	message, protocol := "request", "http"
	if call.Code != "" {
		message, protocol = "call", call.Protocol
	}
	attributes := append(make([]slog.Attr, 0, 11),
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
	if suppressed > 0 {
		attributes = append(attributes, slog.Int("denied_without_a_line", suppressed))
	}
	log.LogAttrs(r.Context(), slog.LevelInfo, message, attributes...)
}

func cut(s string, most int) string {
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// recorder notes the status of the answer, and bounds how long a client may take to read it. All that is
// known of a request is in it, so that there is one thing to allocate.
type recorder struct {
	http.ResponseWriter
	status   int
	timeout  time.Duration // for the client to read each write; 0 for no bound but that of HTTP/2 itself
	extended time.Time     // when the client last got that time
	perWrite bool          // a deadline ends with its write
	conn     *conn         // nil if it has no bounds
	call     rpc.Call
	id       [1]string // the values of the header
}

// writeTimeout is how long a client may take to read what was written.
const writeTimeout = 30 * time.Second

// extendEvery is the part of a timeout that may have passed before it is set again, but once for a quick call.
const extendEvery = 32

// extend gives the client time to read the next write.
func (r *recorder) extend() {
	if r.timeout == 0 {
		return
	}
	now := time.Now()
	if !r.perWrite && now.Sub(r.extended) < r.timeout/extendEvery {
		return
	}
	r.extended = now
	_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(now.Add(r.timeout))
}

// written takes the time back when the client has used it. On HTTP/1 a deadline does nothing between
// two writes; on HTTP/2 it would end a stream that has nothing to say for a while.
func (r *recorder) written() {
	if r.perWrite {
		_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Time{})
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
	defer r.written()
	r.conn.confirm()
	return r.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (r *recorder) Flush() {
	r.extend()
	defer r.written()
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
