// Package httpserver is the one port: every protocol, REST, health, CORS, the access log, TLS, and
// an orderly end.
package httpserver

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/mailkeep/mailkeep/internal/method"
	"github.com/mailkeep/mailkeep/internal/rest"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// maxBytes is the default bound of a request message.
const maxBytes = 64 << 10

// Options is what the handler is made with.
type Options struct {
	Methods      method.Set              // that have REST routes
	MaxBytes     int                     // of each message, unless its method says; 64 KiB if 0
	MaxBody      int64                   // of a whole request body, all messages of a stream; the message and some framing if 0
	CORSOrigins  []string                // any origin if empty
	Pages        map[string]http.Handler // what GET answers at more paths, such as "/livez"
	WriteTimeout time.Duration           // for a client to read each write, on HTTP/2 of a stream only; 30 s if 0
	Log          *slog.Logger            // of one line for each request; none if nil

	// Calls is told of each call that has ended, and how long it took; nil for nobody. One without a Code is
	// a request that was no method's.
	Calls func(call *rpc.Call, took time.Duration)

	// TrustedProxies are the networks of proxies that say which host a request is for.
	TrustedProxies []netip.Prefix
}

// NewHandler returns the one handler for everything that server serves.
func NewHandler(server *connect.Server, o Options) http.Handler {
	if o.MaxBytes == 0 {
		o.MaxBytes = maxBytes
	}
	options := []connecthttp.Option{
		connecthttp.WithCodecs(rpc.NewBinaryCodec(), rpc.NewJSONCodec()),
		connecthttp.WithConditionalOptions(func(spec connect.Spec) []connecthttp.Option {
			return []connecthttp.Option{connecthttp.WithReadMaxBytes(o.maxBytes(o.Methods[spec.Procedure]))}
		}),
		connecthttp.WithCompressMinBytes(compressFrom),
	}
	unknown := unknownMethod(connecthttp.NewErrorWriter(options...))
	procedures := http.NewServeMux()
	connecthttp.Mount(procedureMux{procedures, unknown}, server, options...)
	procedures.Handle("/", unknownService(unknown))

	routes := rest.New(server, o.Methods, rest.Options{MaxBytes: o.MaxBytes, Procedures: procedures})
	h := split(o.Pages, procedures, routes)
	h = webText(h)
	h = o.limitBody(routes, h)
	h = allowOrigins(o.CORSOrigins, h)
	return o.observe(h)
}

// compressFrom is the size of an answer from which on gzip is worth its CPU, in bytes.
const compressFrom = 1024

// frameOverhead is what framing may add to a message of the allowed size, in bytes.
const frameOverhead = 64 << 10

// maxBytes returns the bound of a request message of the method, which may be nil.
func (o Options) maxBytes(m *method.Method) int {
	if m == nil {
		return o.MaxBytes
	}
	return cmp.Or(m.MaxBytes, o.MaxBytes)
}

// limitBody bounds what is read of a request, by the method that it is for. A message may come as
// base64, which is a third longer.
func (o Options) limitBody(routes *rest.Handler, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := o.Methods[r.URL.Path]
		if m == nil {
			m = routes.Method(r)
		}
		most := int64(o.maxBytes(m))
		most = cmp.Or(o.MaxBody, most+most/3+frameOverhead)
		if r.ContentLength < 0 || r.ContentLength > most { // else net/http reads no more than it says
			r.Body = http.MaxBytesReader(w, r.Body, most)
		}
		if r.ContentLength >= 0 {
			most = min(r.ContentLength, max(most, maxDrained))
		}
		from := connOf(r)
		from.allow(most)
		next.ServeHTTP(w, r)
		if r.Context().Err() != nil {
			from.regret() // whoever takes calls back may have sent them for that
		}
	})
}

// split tells pages, RPC paths (/package.Service/Method) and REST paths apart: of the latter two only
// RPC paths have a dot in their first segment.
func split(pages map[string]http.Handler, procedures, routes http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); path.Clean(p) != p {
			rest.NotFound(w, r) // a mux would redirect, and a client would repeat its token elsewhere
			return
		}
		if page, ok := pages[r.URL.Path]; ok && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			page.ServeHTTP(w, r)
			return
		}
		if isProcedure(r) {
			procedures.ServeHTTP(w, r)
			return
		}
		routes.ServeHTTP(w, r)
	})
}

func isProcedure(r *http.Request) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return strings.Contains(first, ".")
}

// procedureMux puts an UNIMPLEMENTED in the caller's framing where Mount would put its catch-all,
// which answers 505 to gRPC-Web over HTTP/1.1.
type procedureMux struct {
	*http.ServeMux
	unknown http.Handler
}

// Handle implements connecthttp.ServeMux.
func (m procedureMux) Handle(pattern string, h http.Handler) {
	if strings.HasSuffix(pattern, "/") {
		h = m.unknown
		if service := strings.TrimSuffix(pattern, "/"); service != "" {
			m.ServeMux.Handle(service, h) // else it would be redirected
		}
	}
	m.ServeMux.Handle(pattern, h)
}

func unknownMethod(errors *connecthttp.ErrorWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !errors.IsSupported(r) {
			rest.NotFound(w, r)
			return
		}
		err := connect.Errorf(connect.CodeUnimplemented, "unknown method")
		_ = errors.Write(w, r, err) // a client that went away has nobody to tell
	})
}

// unknownService answers like unknown, with 404 instead of 501 for a Connect unary call: that is the
// status for a path which is none of the server's.
func unknownService(unknown http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		unknown.ServeHTTP(notImplementedAsNotFound{w}, r)
	})
}

type notImplementedAsNotFound struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w notImplementedAsNotFound) WriteHeader(code int) {
	if code == http.StatusNotImplemented {
		code = http.StatusNotFound
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w notImplementedAsNotFound) Unwrap() http.ResponseWriter { return w.ResponseWriter }
