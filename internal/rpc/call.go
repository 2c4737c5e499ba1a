// Package rpc is the interceptor chain that every call goes through, whatever protocol brought it,
// in this order: one record of the call, the announcement of a deprecation, instance, limits, token,
// permission, decoding and validation, then the handler. Nothing of a request message is decoded
// before the caller is known.
package rpc

import (
	"context"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/method"
)

// Call is what is known of the call under way. Its fields are set as the call goes through the
// chain; the access log reads them when it has ended.
type Call struct {
	RequestID string
	Started   time.Time
	Protocol  string         // connect, grpc, grpcweb or rest; empty for what is not an RPC
	Method    *method.Method // nil for methods without a policy, such as health
	Procedure string
	UserAgent string
	Host      string // that the request is for
	Caller    auth.Caller
	Code      string // such as ok or not_found; empty if the call did not get to the chain
	ErrorID   string // such as QUERY-fwofw

	PathValues []PathValue // from a REST path; they win over the message

	// Parts of the call, so that they are allocated with it.
	ctx    callContext
	stream decodingStream
}

// PathValue is the value of a variable of a REST route.
type PathValue struct{ Name, Value string }

type callKey struct{}

// callContext is a context that carries a call.
type callContext struct {
	context.Context
	call *Call
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return c.call
	}
	return c.Context.Value(key)
}

// WithCall returns a context that carries the call. A call has one.
func WithCall(ctx context.Context, c *Call) context.Context {
	c.ctx = callContext{ctx, c}
	return &c.ctx
}

// CallFrom returns the call that ctx carries; outside of any, an empty one.
func CallFrom(ctx context.Context) *Call {
	if c, ok := ctx.Value(callKey{}).(*Call); ok {
		return c
	}
	return &Call{}
}
