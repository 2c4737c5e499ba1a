package mailrpc

import (
	"context"
	"log/slog"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	tenants "github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// Instances implements InstanceService.
type Instances struct {
	instances *tenants.Service
	log       *slog.Logger
}

var _ mailkeepv1connect.InstanceServiceHandler = Instances{}

// NewInstances returns the service; what is done to instances goes to log.
func NewInstances(instances *tenants.Service, log *slog.Logger) Instances {
	return Instances{instances, log}
}

// AddInstance implements InstanceService.
func (s Instances) AddInstance(ctx context.Context, req *mailkeepv1.AddInstanceRequest) (*mailkeepv1.AddInstanceResponse, error) {
	p := req.GetPolicy()
	added, owner, err := s.instances.Add(ctx, tenants.Instance{
		ID: req.GetId(), Name: req.GetName(), Domains: req.GetDomains(),
		Policy: tenants.Policy{SenderDomains: p.GetSenderDomains(), Limits: tenants.Limits{
			CallsPerSecond: p.GetCallsPerSecond(), OpenMails: p.GetOpenMails(), Providers: p.GetProviders(), Tokens: p.GetTokens(),
		}},
	})
	if err != nil {
		return nil, err
	}
	s.note(ctx, "instance added", added.ID)
	return &mailkeepv1.AddInstanceResponse{Instance: encodeInstance(added), Secret: owner.Reveal()}, nil
}

// ListInstances implements InstanceService.
func (s Instances) ListInstances(ctx context.Context, req *mailkeepv1.ListInstancesRequest) (*mailkeepv1.ListInstancesResponse, error) {
	all, err := s.instances.List(ctx)
	if err != nil {
		return nil, err
	}
	res := &mailkeepv1.ListInstancesResponse{}
	for _, in := range all {
		res.Instances = append(res.Instances, encodeInstance(in))
	}
	if !req.GetRemoved() {
		return res, nil
	}
	removed, err := s.instances.Removed(ctx)
	for _, r := range removed {
		res.Removed = append(res.Removed, &mailkeepv1.RemovedInstance{
			Id: r.ID, Name: r.Name, CreationDate: encodeTime(r.Created), RemovalDate: encodeTime(r.Removed), RemovedBy: r.By,
		})
	}
	return res, err
}

// UpdateInstance implements InstanceService.
func (s Instances) UpdateInstance(ctx context.Context, req *mailkeepv1.UpdateInstanceRequest) (*mailkeepv1.UpdateInstanceResponse, error) {
	updated, err := s.instances.Update(ctx, req.GetId(), func(in *tenants.Instance) {
		set(&in.Name, req.Name)
		if d := req.GetDomains(); d != nil {
			in.Domains = d.GetDomains()
		}
		if d := req.GetSenderDomains(); d != nil {
			in.Policy.SenderDomains = d.GetDomains()
		}
		set(&in.Policy.CallsPerSecond, req.CallsPerSecond)
		set(&in.Policy.OpenMails, req.OpenMails)
		set(&in.Policy.Providers, req.Providers)
		set(&in.Policy.Tokens, req.Tokens)
	})
	if err != nil {
		return nil, err
	}
	s.note(ctx, "instance changed", updated.ID)
	return &mailkeepv1.UpdateInstanceResponse{Instance: encodeInstance(updated)}, nil
}

// set takes a new value over if there is one.
func set[T any](value, to *T) {
	if to != nil {
		*value = *to
	}
}

// RemoveInstance implements InstanceService.
func (s Instances) RemoveInstance(ctx context.Context, req *mailkeepv1.RemoveInstanceRequest) (*mailkeepv1.RemoveInstanceResponse, error) {
	if err := s.instances.Remove(ctx, req.GetId(), rpc.CallFrom(ctx).Caller.Name); err != nil {
		return nil, err
	}
	s.note(ctx, "instance removed", req.GetId())
	return &mailkeepv1.RemoveInstanceResponse{}, nil
}

func (s Instances) note(ctx context.Context, what, id string) {
	call := rpc.CallFrom(ctx)
	s.log.InfoContext(ctx, what, "request_id", call.RequestID, "caller", call.Caller.Name, "id", id)
}

func encodeInstance(in tenants.Instance) *mailkeepv1.Instance {
	return &mailkeepv1.Instance{
		Id: in.ID, Name: in.Name, Domains: in.Domains, CreationDate: encodeTime(in.Created),
		Policy: &mailkeepv1.InstancePolicy{
			SenderDomains: in.Policy.SenderDomains, CallsPerSecond: in.Policy.CallsPerSecond,
			OpenMails: in.Policy.OpenMails, Providers: in.Policy.Providers, Tokens: in.Policy.Tokens,
		},
	}
}
