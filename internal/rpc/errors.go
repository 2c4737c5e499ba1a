package rpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
	"github.com/mailkeep/mailkeep/internal/fault"
)

// codes maps every kind of failure to its status.
var codes = map[fault.Kind]connect.Code{
	fault.Internal:           connect.CodeInternal,
	fault.InvalidArgument:    connect.CodeInvalidArgument,
	fault.NotFound:           connect.CodeNotFound,
	fault.AlreadyExists:      connect.CodeAlreadyExists,
	fault.PermissionDenied:   connect.CodePermissionDenied,
	fault.Unauthenticated:    connect.CodeUnauthenticated,
	fault.FailedPrecondition: connect.CodeFailedPrecondition,
	fault.Aborted:            connect.CodeAborted,
	fault.ResourceExhausted:  connect.CodeResourceExhausted,
	fault.Unavailable:        connect.CodeUnavailable,
	fault.Unimplemented:      connect.CodeUnimplemented,
}

// mapError is the one place where an error becomes what the caller is told. What is neither a
// *fault.Error nor a verdict of the transport is told to the log only.
func (c Config) mapError(ctx context.Context, call *Call, err error) error {
	if err == nil {
		call.Code = "ok"
		return nil
	}
	mapped := c.toConnect(ctx, call, err)
	call.Code = mapped.Code().String()
	return mapped
}

func (c Config) toConnect(ctx context.Context, call *Call, err error) *connect.Error {
	var known *fault.Error
	var transport *connect.Error
	switch {
	case errors.As(err, &known):
		call.ErrorID = known.ID
		if known.Retry > 0 {
			info, _ := connect.CallInfoForServerContext(ctx)
			info.ResponseHeader().Set("Retry-After", retryAfter(known.Retry))
		} else if known.Kind == fault.Internal || known.Kind == fault.Unavailable || known.Kind == fault.ResourceExhausted {
			c.logFailure(ctx, call, err)
		}
		return withDetails(fromFault(known), err)
	case errors.As(err, &transport):
		return transport
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, "the caller went away")
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, "the deadline passed")
	default:
		c.logFailure(ctx, call, err)
		return internalError(call)
	}
}

func (c Config) logFailure(ctx context.Context, call *Call, err error) {
	c.Log.ErrorContext(ctx, "call failed", "request_id", call.RequestID, "procedure", call.Procedure, "err", err)
}

func fromFault(f *fault.Error) *connect.Error {
	mapped := connect.NewError(codes[f.Kind], f.Message())
	if f.ID == "" {
		return mapped
	}
	mapped = withDetail(mapped, &zitadelv1.ErrorDetail{Id: f.ID, Message: f.Text})
	if f.Reason != "" {
		mapped = withDetail(mapped, &errdetails.ErrorInfo{Reason: f.Reason, Domain: reasonDomain})
	}
	if f.Retry > 0 {
		mapped = withDetail(mapped, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.Retry)})
	}
	return mapped
}

// retryAfter is a time in whole seconds (RFC 9110, section 10.2.3), not before it has passed.
func retryAfter(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// reasonDomain says whose reasons they are (google.rpc.ErrorInfo).
const reasonDomain = "mailkeep"

// Detailed is an error that tells the caller more than a text. It must have a *fault.Error in its
// chain.
type Detailed interface {
	error
	// ErrorDetails are safe to show.
	ErrorDetails() []proto.Message
}

// withDetails adds the details of err to what the caller is told.
func withDetails(told *connect.Error, err error) *connect.Error {
	var detailed Detailed
	if errors.As(err, &detailed) {
		for _, d := range detailed.ErrorDetails() {
			told = withDetail(told, d)
		}
	}
	return told
}

// withDetail leaves out a detail that can't be encoded: the error matters more.
func withDetail(told *connect.Error, m proto.Message) *connect.Error {
	detail, err := connectproto.NewErrorDetail(m)
	if err != nil {
		return told
	}
	return told.WithDetail(detail)
}

// internalError says no more than where to look.
func internalError(call *Call) *connect.Error {
	return connect.Errorf(connect.CodeInternal, "internal error; the log has more under request id %s", call.RequestID)
}

// typeName describes a panic without its value, which may hold anything.
func typeName(p any) string {
	if err, ok := p.(error); ok {
		return fmt.Sprintf("%T: %s", p, runtimeText(err))
	}
	return fmt.Sprintf("%T", p)
}

// runtimeText is the text of errors of the Go runtime, which name types and indexes only.
func runtimeText(err error) string {
	var r interface{ RuntimeError() }
	if errors.As(err, &r) {
		return err.Error()
	}
	return "not shown"
}
