// Package rest serves the REST routes that the google.api.http options of the descriptors name, on
// the same interceptor chain as every RPC (connect.Server.Call).
//
// A request with a gRPC or gRPC-Web content type and a framed body is handed to the RPC handler of
// the same method, and answered in its framing: the admin API documents those content types on its
// REST paths.
package rest

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/method"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// anything is the pattern of requests that no route matches.
const anything = "/"

// Options is what a Handler works with.
type Options struct {
	MaxBytes   int          // of a request body, before and after decompression, unless the method says
	Procedures http.Handler // serves the methods as RPCs, for framed requests
}

// Handler serves REST routes. A request that is no route's is answered 404 or 405.
type Handler struct {
	server  *connect.Server
	mux     *http.ServeMux
	options Options
	codec   rpc.JSONCodec
}

// New returns a handler of the methods' routes.
func New(server *connect.Server, methods method.Set, options Options) *Handler {
	h := &Handler{server: server, mux: http.NewServeMux(), options: options, codec: rpc.NewJSONCodec()}
	for _, m := range methods {
		if !m.Streams {
			h.mux.Handle(m.Route.Verb+" "+m.Route.Path, route{h, m})
		}
	}
	h.mux.HandleFunc(anything, h.noRoute)
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mux.ServeHTTP(w, r)
}

// noRoute answers what no route matches.
func (h *Handler) noRoute(w http.ResponseWriter, r *http.Request) {
	allowed := h.allowed(r)
	if len(allowed) == 0 && isGRPC(r) {
		r = r.Clone(r.Context())
		r.Method = http.MethodPost           // as every RPC
		h.options.Procedures.ServeHTTP(w, r) // says UNIMPLEMENTED in the caller's framing
		return
	}
	if len(allowed) == 0 {
		NotFound(w, r)
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeStatus(w, http.StatusMethodNotAllowed, status{Code: connect.CodeUnimplemented, Message: "Method Not Allowed"})
}

// NotFound answers what no route answers.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	writeStatus(w, http.StatusNotFound, status{Code: connect.CodeNotFound, Message: "Not Found"})
}

// allowed returns the verbs that have a route at the request's path.
func (h *Handler) allowed(r *http.Request) []string {
	var verbs []string
	for _, verb := range []string{"DELETE", "GET", "POST", "PUT"} {
		probe := &http.Request{Method: verb, URL: r.URL, Host: r.Host}
		if _, pattern := h.mux.Handler(probe); pattern != anything {
			verbs = append(verbs, verb)
		}
	}
	return verbs
}

// Method returns the method whose route a request takes, nil if it takes none.
func (h *Handler) Method(r *http.Request) *method.Method {
	found, _ := h.mux.Handler(r)
	if r, ok := found.(route); ok {
		return r.method
	}
	return nil
}

// route is the handler of one route.
type route struct {
	*Handler
	method *method.Method
}

// ServeHTTP implements http.Handler.
func (h route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := rpc.CallFrom(r.Context())
	for _, name := range h.method.Route.Variables() {
		call.PathValues = append(call.PathValues, rpc.PathValue{Name: name, Value: r.PathValue(name)})
	}
	if isFramed(r) {
		h.delegate(w, r, h.method)
		return
	}
	h.call(w, r, h.method)
}

// delegate hands a framed request to the procedure's own handler.
func (h *Handler) delegate(w http.ResponseWriter, r *http.Request, m *method.Method) {
	inner := r.Clone(r.Context())
	inner.Method, inner.URL = http.MethodPost, &url.URL{Path: m.Procedure}
	h.options.Procedures.ServeHTTP(w, inner)
}

// call makes the call with a JSON body and writes its answer.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, m *method.Method) {
	info := &connect.CallInfo{
		Spec:     connect.Spec{Procedure: m.Procedure, Schema: m.Descriptor},
		PeerAddr: r.RemoteAddr, Protocol: "rest", Codec: connect.CodecNameJSON,
		RequestEncoding: connect.CompressionNameIdentity, ResponseEncoding: connect.CompressionNameIdentity,
	}
	for name, values := range r.Header {
		info.RequestHeader().SetValues(name, values)
	}
	stream := &stream{ctx: r.Context(), request: r, codec: h.codec, readBody: m.Route.Body, maxBytes: cmp.Or(m.MaxBytes, h.options.MaxBytes)}
	err := h.server.Call(r.Context(), m.Procedure, info, stream)
	for name, values := range info.ResponseHeader().All() {
		w.Header()[name] = values
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, stream.response.Bytes())
}
