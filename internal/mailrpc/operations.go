package mailrpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/deprecation"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// Rotate adds a primary key and seals every secret with it again.
type Rotate func(ctx context.Context) (primary uint32, resealed uint64, err error)

// Keys implements KeyService.
type Keys struct{ rotate Rotate }

var _ mailkeepv1connect.KeyServiceHandler = Keys{}

// NewKeys returns the service.
func NewKeys(rotate Rotate) Keys { return Keys{rotate} }

// RotateKeys implements KeyService.
func (s Keys) RotateKeys(ctx context.Context, _ *mailkeepv1.RotateKeysRequest) (*mailkeepv1.RotateKeysResponse, error) {
	primary, resealed, err := s.rotate(ctx)
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.RotateKeysResponse{PrimaryKeyId: primary, Resealed: resealed}, nil
}

// Deprecations implements DeprecationService.
type Deprecations struct {
	uses       *deprecation.Recorder
	successors map[string]string
}

var _ mailkeepv1connect.DeprecationServiceHandler = Deprecations{}

// NewDeprecations returns the service; successors has the successor's name of each deprecated method.
func NewDeprecations(uses *deprecation.Recorder, successors map[string]string) Deprecations {
	return Deprecations{uses, successors}
}

// ListDeprecatedUses implements DeprecationService.
func (s Deprecations) ListDeprecatedUses(ctx context.Context, _ *mailkeepv1.ListDeprecatedUsesRequest) (*mailkeepv1.ListDeprecatedUsesResponse, error) {
	uses, err := s.uses.Uses(ctx, rpc.CallFrom(ctx).Caller.Instance)
	if err != nil {
		return nil, err
	}
	res := &mailkeepv1.ListDeprecatedUsesResponse{CallsByMethod: map[string]uint64{}}
	for method := range s.successors {
		res.CallsByMethod[method] = 0
	}
	for _, u := range uses {
		res.CallsByMethod[u.Method] += u.Calls
		res.Uses = append(res.Uses, &mailkeepv1.DeprecatedUse{
			Method: u.Method, Successor: s.successors[u.Method], Caller: u.Caller, UserAgent: u.UserAgent, Calls: u.Calls,
			FirstUsed: timestamppb.New(u.First), LastUsed: timestamppb.New(u.Last),
		})
	}
	return res, nil
}
