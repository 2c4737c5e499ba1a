package rpc

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/limit"
	"github.com/mailkeep/mailkeep/internal/method"
)

// Authenticator turns an Authorization header into a caller.
type Authenticator interface {
	Authenticate(ctx context.Context, instance string, authorization []string) (auth.Caller, error)
}

// Instances knows which instance a request is for.
type Instances interface {
	ByHost(ctx context.Context, host string) (string, error)
	// While returns a context that ends with ctx and when the instance is removed, with the cause that the
	// caller is told then. stop gives up what it takes.
	While(ctx context.Context, instance string) (bound context.Context, stop func())
}

// Config is what the chain works with.
type Config struct {
	Methods     method.Set
	Open        []string // full names of services that need no token, such as grpc.health.v1.Health
	Instances   Instances
	Tokens      Authenticator
	Limits      *limit.Calls // nil for none
	Deprecation Deprecation
	Log         *slog.Logger
}

// Interceptors returns the chain, outermost first.
func Interceptors(c Config) []connect.ServerInterceptor {
	return []connect.ServerInterceptor{c.observe, c.deprecate, c.admit, c.countDeprecated, c.decode}
}

// observe notes what the call is and how it ends, stops panics, and maps every error.
func (c Config) observe(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) (err error) {
		call := CallFrom(ctx)
		info, _ := connect.CallInfoForServerContext(ctx)
		call.Protocol, call.Procedure, call.Method = info.Protocol, spec.Procedure, c.Methods[spec.Procedure]
		call.UserAgent = userAgent(info.RequestHeader())
		defer func() {
			if p := recover(); p != nil {
				c.Log.ErrorContext(ctx, "panic", "request_id", call.RequestID, "procedure", spec.Procedure,
					"type", typeName(p), "stack", string(debug.Stack()))
				err = c.mapError(ctx, call, internalError(call))
			}
		}()
		err = c.mapError(ctx, call, next(ctx, spec, stream))
		if connect.CodeOf(err) == connect.CodeUnauthenticated {
			info.ResponseHeader().Set("Www-Authenticate", "Bearer")
		}
		return err
	}
}

// userAgent prefers what browsers let scripts set. It is cut, and valid UTF-8.
func userAgent(h *connect.Header) string {
	ua := h.Get("X-User-Agent")
	if ua == "" {
		ua = h.Get("User-Agent")
	}
	return strings.ToValidUTF8(ua[:min(len(ua), maxUserAgent)], "")
}

// maxUserAgent bounds what events and uses of deprecated methods keep of a user agent, in bytes.
const maxUserAgent = 200

// admit decides who calls, for which instance, and whether they may.
func (c Config) admit(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if c.isOpen(spec.Procedure) {
			return next(ctx, spec, stream)
		}
		call := CallFrom(ctx)
		instance, err := c.Instances.ByHost(ctx, call.Host)
		if err != nil {
			return err
		}
		info, _ := connect.CallInfoForServerContext(ctx)
		authorization := info.RequestHeader().Values("Authorization")
		if err := c.Limits.Hear(info.PeerAddr, authorization); err != nil {
			return err
		}
		streams := call.Method != nil && call.Method.Streams
		if err := c.Limits.Enter(ctx, instance, streams); err != nil {
			return err
		}
		defer c.Limits.Leave(instance, streams)
		call.Caller, err = c.check(ctx, instance, authorization, call.Method)
		if err := c.count(ctx, instance, info.PeerAddr, authorization, err); err != nil {
			return err
		}
		if !streams {
			return next(ctx, spec, stream)
		}
		bound, stop := c.Instances.While(ctx, instance)
		defer stop()
		err = next(bound, spec, admittedStream{stream, func() error {
			_, err := c.check(ctx, instance, authorization, call.Method)
			return err
		}})
		if err != nil && bound.Err() != nil && ctx.Err() == nil {
			return context.Cause(bound)
		}
		return err
	}
}

// check decides who calls and whether they may call the method, which none may without a policy.
func (c Config) check(ctx context.Context, instance string, authorization []string, m *method.Method) (auth.Caller, error) {
	caller, err := c.Tokens.Authenticate(ctx, instance, authorization)
	if err != nil {
		return auth.Caller{Instance: instance}, err // for the log
	}
	permission := ""
	if m != nil {
		permission = m.Permission
	}
	return caller, auth.Authorize(caller, permission)
}

// count counts a call against the bound that its verdict makes it subject to, and returns why it may not be
// made.
func (c Config) count(ctx context.Context, instance, remote string, authorization []string, verdict error) error {
	if verdict != nil && fault.KindOf(verdict) != fault.PermissionDenied { // the token is not known to be valid
		if fault.KindOf(verdict) == fault.Unauthenticated {
			c.Limits.Heard(remote, authorization, false)
		}
		return verdict
	}
	c.Limits.Heard(remote, authorization, true)
	if err := c.Limits.Take(ctx, instance); err != nil {
		return err
	}
	return verdict
}

// admittedStream is an answer that may last longer than its caller's token.
type admittedStream struct {
	connect.ServerStream
	check func() error
}

// Send implements connect.ServerStream.
func (s admittedStream) Send(msg any) error {
	if err := s.check(); err != nil {
		return err
	}
	return s.ServerStream.Send(msg)
}

func (c Config) isOpen(procedure string) bool {
	service, _, _ := strings.Cut(strings.TrimPrefix(procedure, "/"), "/")
	return slices.Contains(c.Open, service)
}
