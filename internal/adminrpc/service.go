// Package adminrpc serves zitadel.admin.v1.AdminService. Each generation of its methods is two
// files, the handlers and their codec: emailprovider*.go and, deprecated and ready to be deleted,
// smtpconfig*.go. A handler decodes, makes one call of the domain, and encodes.
package adminrpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// Service implements AdminService on the domain.
type Service struct {
	providers *emailprovider.Service
}

var _ adminv1connect.AdminServiceHandler = (*Service)(nil)

// NewService returns a Service.
func NewService(providers *emailprovider.Service) *Service { return &Service{providers} }

// caller returns who calls, as the domain wants it.
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
func instance(ctx context.Context) string { return caller(ctx).Instance }

// details are in every answer, so their parts are allocated together.
func details(p emailprovider.Provider) *zitadelv1.ObjectDetails {
	all := new(struct {
		zitadelv1.ObjectDetails
		created, changed timestamppb.Timestamp
	})
	setTime(&all.created, p.Created)
	setTime(&all.changed, p.Changed)
	all.Sequence, all.ResourceOwner = p.Sequence, p.Instance
	all.CreationDate, all.ChangeDate = &all.created, &all.changed
	return &all.ObjectDetails
}

// setTime is timestamppb.New without an allocation.
func setTime(to *timestamppb.Timestamp, at time.Time) {
	to.Seconds, to.Nanos = at.Unix(), int32(at.Nanosecond())
}
