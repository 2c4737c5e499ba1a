package httpserver

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"time"

	"github.com/mailkeep/mailkeep/internal/rpc"
)

const requestIDHeader = "X-Request-Id"

// Response is what was answered.
type Response struct {
	Status int
	Bytes  int64
}

// observe gives each request its rpc.Call and id, and hands both to log when it has been answered.
func observe(log func(*rpc.Call, *http.Request, Response), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := &rpc.Call{RequestID: rand.Text(), Started: time.Now(), Host: r.Host}
		w.Header().Set(requestIDHeader, call.RequestID)
		recorder := &recorder{ResponseWriter: w}
		next.ServeHTTP(recorder, r.WithContext(rpc.WithCall(r.Context(), call)))
		if log != nil {
			log(call, r, recorder.response)
		}
	})
}

// LogAccess returns a function that writes one line for each request. Paths are logged only for
// what was no call: they may hold anything.
func LogAccess(logger *slog.Logger) func(*rpc.Call, *http.Request, Response) {
	return func(call *rpc.Call, r *http.Request, response Response) {
		attributes := []slog.Attr{
			slog.String("request_id", call.RequestID),
			slog.String("protocol", "http"),
			slog.Int("status", response.Status),
			slog.Duration("time", time.Since(call.Started)),
		}
		message := "request"
		if call.Code != "" {
			message = "call"
			attributes[1] = slog.String("protocol", call.Protocol)
			attributes = append(attributes,
				slog.String("method", call.Procedure), slog.String("instance", call.Caller.Instance),
				slog.String("caller", call.Caller.Name), slog.String("code", call.Code))
			if call.ErrorID != "" {
				attributes = append(attributes, slog.String("error_id", call.ErrorID))
			}
		} else {
			attributes = append(attributes, slog.String("verb", r.Method), slog.String("path", cut(r.URL.Path, 200)))
		}
		logger.LogAttrs(r.Context(), slog.LevelInfo, message, attributes...)
	}
}

func cut(s string, most int) string {
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// recorder notes what is written.
type recorder struct {
	http.ResponseWriter
	response Response
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	if r.response.Status == 0 && code >= 200 {
		r.response.Status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	if r.response.Status == 0 {
		r.response.Status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.response.Bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
