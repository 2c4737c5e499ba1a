package adminrpc

import (
	"context"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// GetSMTPConfig implements AdminService.
func (s *Service) GetSMTPConfig(ctx context.Context, _ *adminv1.GetSMTPConfigRequest) (*adminv1.GetSMTPConfigResponse, error) {
	p, err := emailprovider.RequireSMTP(s.providers.GetActive(ctx, instance(ctx)))
	if err != nil {
		return nil, err
	}
	return &adminv1.GetSMTPConfigResponse{SmtpConfig: encodeSMTPConfig(p)}, nil
}

// GetSMTPConfigById implements AdminService.
func (s *Service) GetSMTPConfigById(ctx context.Context, req *adminv1.GetSMTPConfigByIdRequest) (*adminv1.GetSMTPConfigByIdResponse, error) {
	p, err := emailprovider.RequireSMTP(s.providers.Get(ctx, instance(ctx), req.GetId()))
	if err != nil {
		return nil, err
	}
	return &adminv1.GetSMTPConfigByIdResponse{SmtpConfig: encodeSMTPConfig(p)}, nil
}

// ListSMTPConfigs implements AdminService.
func (s *Service) ListSMTPConfigs(ctx context.Context, req *adminv1.ListSMTPConfigsRequest) (*adminv1.ListSMTPConfigsResponse, error) {
	q := query(req.GetQuery())
	q.SMTPOnly = true
	page, at, err := s.providers.List(ctx, instance(ctx), q)
	if err != nil {
		return nil, err
	}
	res := &adminv1.ListSMTPConfigsResponse{Details: listDetails(page, at)}
	for _, p := range page.Providers {
		res.Result = append(res.Result, encodeSMTPConfig(p))
	}
	return res, nil
}

// AddSMTPConfig implements AdminService.
func (s *Service) AddSMTPConfig(ctx context.Context, req *adminv1.AddSMTPConfigRequest) (*adminv1.AddSMTPConfigResponse, error) {
	p, err := s.providers.AddSMTP(ctx, caller(ctx), decodeSMTPConfig(req, req.GetDescription(), req.GetReplyToAddress()))
	if err != nil {
		return nil, err
	}
	return &adminv1.AddSMTPConfigResponse{Details: details(p), Id: p.ID}, nil
}

// UpdateSMTPConfig implements AdminService.
func (s *Service) UpdateSMTPConfig(ctx context.Context, req *adminv1.UpdateSMTPConfigRequest) (*adminv1.UpdateSMTPConfigResponse, error) {
	p, err := s.providers.UpdateSMTP(ctx, caller(ctx), req.GetId(), decodeSMTPConfig(req, req.GetDescription(), req.GetReplyToAddress()))
	if err != nil {
		return nil, err
	}
	return &adminv1.UpdateSMTPConfigResponse{Details: details(p)}, nil
}

// UpdateSMTPConfigPassword implements AdminService.
func (s *Service) UpdateSMTPConfigPassword(ctx context.Context, req *adminv1.UpdateSMTPConfigPasswordRequest) (*adminv1.UpdateSMTPConfigPasswordResponse, error) {
	p, err := s.providers.SetPassword(ctx, caller(ctx), req.GetId(), secret.New(req.GetPassword()))
	if err != nil {
		return nil, err
	}
	return &adminv1.UpdateSMTPConfigPasswordResponse{Details: details(p)}, nil
}

// ActivateSMTPConfig implements AdminService.
func (s *Service) ActivateSMTPConfig(ctx context.Context, req *adminv1.ActivateSMTPConfigRequest) (*adminv1.ActivateSMTPConfigResponse, error) {
	p, err := s.providers.Activate(ctx, caller(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.ActivateSMTPConfigResponse{Details: details(p)}, nil
}

// DeactivateSMTPConfig implements AdminService.
func (s *Service) DeactivateSMTPConfig(ctx context.Context, req *adminv1.DeactivateSMTPConfigRequest) (*adminv1.DeactivateSMTPConfigResponse, error) {
	p, err := s.providers.Deactivate(ctx, caller(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.DeactivateSMTPConfigResponse{Details: details(p)}, nil
}

// RemoveSMTPConfig implements AdminService.
func (s *Service) RemoveSMTPConfig(ctx context.Context, req *adminv1.RemoveSMTPConfigRequest) (*adminv1.RemoveSMTPConfigResponse, error) {
	p, err := s.providers.Remove(ctx, caller(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.RemoveSMTPConfigResponse{Details: details(p)}, nil
}

// TestSMTPConfigById implements AdminService.
func (s *Service) TestSMTPConfigById(ctx context.Context, req *adminv1.TestSMTPConfigByIdRequest) (*adminv1.TestSMTPConfigByIdResponse, error) {
	if err := s.providers.TestStored(ctx, caller(ctx), req.GetId(), req.GetReceiverAddress()); err != nil {
		return nil, err
	}
	return &adminv1.TestSMTPConfigByIdResponse{}, nil
}

// TestSMTPConfig implements AdminService.
func (s *Service) TestSMTPConfig(ctx context.Context, req *adminv1.TestSMTPConfigRequest) (*adminv1.TestSMTPConfigResponse, error) {
	err := s.providers.TestValues(ctx, caller(ctx), req.GetId(), decodeSMTPConfig(req, "", ""), req.GetReceiverAddress())
	if err != nil {
		return nil, err
	}
	return &adminv1.TestSMTPConfigResponse{}, nil
}
