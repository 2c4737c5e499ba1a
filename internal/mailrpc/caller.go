package mailrpc

import (
	"context"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// caller returns who calls, as the domain of providers wants it.
func caller(ctx context.Context) emailprovider.Caller {
	c := rpc.CallFrom(ctx)
	return emailprovider.Caller{
		Instance: c.Caller.Instance,
		Actor: emailprovider.Actor{
			TokenID: c.Caller.TokenID, Name: c.Caller.Name, Protocol: c.Protocol, Procedure: c.Procedure,
			UserAgent: c.UserAgent, RequestID: c.RequestID,
		},
	}
}

// instance returns the instance that the call is for.
func instance(ctx context.Context) string { return rpc.CallFrom(ctx).Caller.Instance }

// badValue refuses a request; text names the field.
func badValue(format string, args ...any) error {
	return fault.Newf(fault.InvalidArgument, "MAILKEEP-VALUE", format, args...)
}

// decodePageSize leaves the bounds to the domains.
func decodePageSize(n uint32) int { return int(min(n, math.MaxInt32)) }

// encodeTime leaves out the time that is not known.
func encodeTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// encodeCount keeps to what fits: codes and counts are never negative, or as large.
func encodeCount(n int) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }
