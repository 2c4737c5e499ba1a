package rpc

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// deprecatedSince is when the SMTPConfig generation became deprecated here: with Mailkeep's first
// version, 2026-11-23.
var deprecatedSince = time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)

// UseRecorder counts uses of deprecated methods.
type UseRecorder interface {
	Record(instance, method, caller, userAgent string)
}

// Deprecation says what callers of deprecated methods get.
type Deprecation struct {
	Uses   UseRecorder
	Sunset time.Time // when the methods will go; zero for no date
	Refuse bool      // answer UNIMPLEMENTED, to see what a cut-over would break
}

// deprecate tells callers of deprecated methods so, by RFC 9745 (Deprecation), RFC 8594 (Sunset) and
// RFC 8288 (Link), whatever comes of the call.
func (c Config) deprecate(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		call := CallFrom(ctx)
		if call.Method == nil || !call.Method.Deprecated {
			return next(ctx, spec, stream)
		}
		info, _ := connect.CallInfoForServerContext(ctx)
		c.Deprecation.announce(info.ResponseHeader())
		linked := &linkingStream{ServerStream: stream, call: call, header: info.ResponseHeader()}
		linked.link(func(name string) string { return pathValue(call, name) })
		return next(ctx, spec, linked)
	}
}

// countDeprecated counts uses of deprecated methods, by callers who may use them, and refuses them if
// that is wanted.
func (c Config) countDeprecated(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		call := CallFrom(ctx)
		if call.Method == nil || !call.Method.Deprecated {
			return next(ctx, spec, stream)
		}
		c.Deprecation.Uses.Record(call.Caller.Instance, call.Method.Name, call.Caller.Name, call.UserAgent)
		if c.Deprecation.Refuse {
			return fault.Newf(fault.Unimplemented, "MAILKEEP-DEPRECATED",
				"%s is deprecated and refused here; use %s", call.Method.Name, call.Method.Successor.Name)
		}
		return next(ctx, spec, stream)
	}
}

func (d Deprecation) announce(h *connect.Header) {
	h.Set("Deprecation", "@"+strconv.FormatInt(deprecatedSince.Unix(), 10))
	if !d.Sunset.IsZero() {
		h.Set("Sunset", d.Sunset.UTC().Format(http.TimeFormat))
	}
}

// maxID is the length of the longest id that any method takes, in characters.
const maxID = 200

// linkingStream names the successor's path once the message tells the id in it.
type linkingStream struct {
	connect.ServerStream
	call   *Call
	header *connect.Header
}

// Receive implements connect.ServerStream.
func (s *linkingStream) Receive(msg any) error {
	err := s.ServerStream.Receive(msg)
	if m, ok := msg.(proto.Message); ok && err == nil {
		s.link(func(name string) string {
			if v := pathValue(s.call, name); v != "" {
				return v
			}
			return stringField(m.ProtoReflect(), name)
		})
	}
	return err
}

// link sets the Link header if every variable of the path has a value that can be in a path: neither
// too long to be an id, nor a dot segment (RFC 3986, section 5.2.4).
func (s *linkingStream) link(value func(name string) string) {
	route := s.call.Method.Successor.Route
	for _, name := range route.Variables() {
		if v := value(name); v == "" || v == "." || v == ".." || utf8.RuneCountInString(v) > maxID {
			return
		}
	}
	s.header.Set("Link", fmt.Sprintf(`<%s>; rel="successor-version"`, route.Expand(value)))
}

func pathValue(call *Call, name string) string {
	for _, v := range call.PathValues {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

func stringField(m protoreflect.Message, name string) string {
	fd := m.Descriptor().Fields().ByName(protoreflect.Name(name))
	if fd == nil || fd.Kind() != protoreflect.StringKind || fd.IsList() {
		return ""
	}
	return m.Get(fd).String()
}
