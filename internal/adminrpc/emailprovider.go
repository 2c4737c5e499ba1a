package adminrpc

import (
	"context"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/rpc"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// GetEmailProvider implements AdminService.
func (s *Service) GetEmailProvider(ctx context.Context, _ *adminv1.GetEmailProviderRequest) (*adminv1.GetEmailProviderResponse, error) {
	p, err := s.providers.GetActive(ctx, instance(ctx))
	if err != nil {
		return nil, err
	}
	return &adminv1.GetEmailProviderResponse{Config: s.encode(ctx, p)}, nil
}

// GetEmailProviderById implements AdminService.
func (s *Service) GetEmailProviderById(ctx context.Context, req *adminv1.GetEmailProviderByIdRequest) (*adminv1.GetEmailProviderByIdResponse, error) {
	p, err := s.providers.Get(ctx, instance(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.GetEmailProviderByIdResponse{Config: s.encode(ctx, p)}, nil
}

// ListEmailProviders implements AdminService.
func (s *Service) ListEmailProviders(ctx context.Context, req *adminv1.ListEmailProvidersRequest) (*adminv1.ListEmailProvidersResponse, error) {
	page, at, err := s.providers.List(ctx, instance(ctx), query(req.GetQuery()))
	if err != nil {
		return nil, err
	}
	res := &adminv1.ListEmailProvidersResponse{Details: listDetails(page, at)}
	for _, p := range page.Providers {
		res.Result = append(res.Result, s.encode(ctx, p))
	}
	return res, nil
}

// AddEmailProviderSMTP implements AdminService.
func (s *Service) AddEmailProviderSMTP(ctx context.Context, req *adminv1.AddEmailProviderSMTPRequest) (*adminv1.AddEmailProviderSMTPResponse, error) {
	p, err := s.providers.AddSMTP(ctx, caller(ctx), decodeSMTP(req, req.GetDescription(), req.GetReplyToAddress()))
	if err != nil {
		return nil, err
	}
	return &adminv1.AddEmailProviderSMTPResponse{Details: details(p), Id: p.ID}, nil
}

// UpdateEmailProviderSMTP implements AdminService.
func (s *Service) UpdateEmailProviderSMTP(ctx context.Context, req *adminv1.UpdateEmailProviderSMTPRequest) (*adminv1.UpdateEmailProviderSMTPResponse, error) {
	p, err := s.providers.UpdateSMTP(ctx, caller(ctx), req.GetId(), decodeSMTP(req, req.GetDescription(), req.GetReplyToAddress()))
	if err != nil {
		return nil, err
	}
	return &adminv1.UpdateEmailProviderSMTPResponse{Details: details(p)}, nil
}

// UpdateEmailProviderSMTPPassword implements AdminService.
func (s *Service) UpdateEmailProviderSMTPPassword(ctx context.Context, req *adminv1.UpdateEmailProviderSMTPPasswordRequest) (*adminv1.UpdateEmailProviderSMTPPasswordResponse, error) {
	p, err := s.providers.SetPassword(ctx, caller(ctx), req.GetId(), secret.New(req.GetPassword()))
	if err != nil {
		return nil, err
	}
	return &adminv1.UpdateEmailProviderSMTPPasswordResponse{Details: details(p)}, nil
}

// AddEmailProviderHTTP implements AdminService.
func (s *Service) AddEmailProviderHTTP(ctx context.Context, req *adminv1.AddEmailProviderHTTPRequest) (*adminv1.AddEmailProviderHTTPResponse, error) {
	p, key, err := s.providers.AddHTTP(ctx, caller(ctx), emailprovider.HTTPSettings{
		Endpoint: req.GetEndpoint(), Description: req.GetDescription(),
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.AddEmailProviderHTTPResponse{Details: details(p), Id: p.ID, SigningKey: key.Reveal()}, nil
}

// UpdateEmailProviderHTTP implements AdminService.
func (s *Service) UpdateEmailProviderHTTP(ctx context.Context, req *adminv1.UpdateEmailProviderHTTPRequest) (*adminv1.UpdateEmailProviderHTTPResponse, error) {
	p, key, err := s.providers.UpdateHTTP(ctx, caller(ctx), req.GetId(), emailprovider.HTTPSettings{
		Endpoint: req.GetEndpoint(), Description: req.GetDescription(),
		NewSigningKey: req.GetExpirationSigningKey() != nil,
	})
	if err != nil {
		return nil, err
	}
	res := &adminv1.UpdateEmailProviderHTTPResponse{Details: details(p)}
	if !key.Empty() {
		res.SigningKey = proto.String(key.Reveal())
	}
	return res, nil
}

// ActivateEmailProvider implements AdminService.
func (s *Service) ActivateEmailProvider(ctx context.Context, req *adminv1.ActivateEmailProviderRequest) (*adminv1.ActivateEmailProviderResponse, error) {
	p, err := s.providers.Activate(ctx, caller(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.ActivateEmailProviderResponse{Details: details(p)}, nil
}

// DeactivateEmailProvider implements AdminService.
func (s *Service) DeactivateEmailProvider(ctx context.Context, req *adminv1.DeactivateEmailProviderRequest) (*adminv1.DeactivateEmailProviderResponse, error) {
	p, err := s.providers.Deactivate(ctx, caller(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.DeactivateEmailProviderResponse{Details: details(p)}, nil
}

// RemoveEmailProvider implements AdminService.
func (s *Service) RemoveEmailProvider(ctx context.Context, req *adminv1.RemoveEmailProviderRequest) (*adminv1.RemoveEmailProviderResponse, error) {
	p, err := s.providers.Remove(ctx, caller(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &adminv1.RemoveEmailProviderResponse{Details: details(p)}, nil
}

// TestEmailProviderSMTPById implements AdminService.
func (s *Service) TestEmailProviderSMTPById(ctx context.Context, req *adminv1.TestEmailProviderSMTPByIdRequest) (*adminv1.TestEmailProviderSMTPByIdResponse, error) {
	if err := s.providers.TestStored(ctx, caller(ctx), req.GetId(), req.GetReceiverAddress()); err != nil {
		return nil, err
	}
	return &adminv1.TestEmailProviderSMTPByIdResponse{}, nil
}

// TestEmailProviderSMTP implements AdminService.
func (s *Service) TestEmailProviderSMTP(ctx context.Context, req *adminv1.TestEmailProviderSMTPRequest) (*adminv1.TestEmailProviderSMTPResponse, error) {
	err := s.providers.TestValues(ctx, caller(ctx), req.GetId(), decodeSMTP(req, "", ""), req.GetReceiverAddress())
	if err != nil {
		return nil, err
	}
	return &adminv1.TestEmailProviderSMTPResponse{}, nil
}

// encode shows a provider to the caller, with its signing key only if they may change it anyway.
func (s *Service) encode(ctx context.Context, p emailprovider.Provider) *settingsv1.EmailProvider {
	out := encodeProvider(p)
	if http := out.GetHttp(); http != nil && rpc.CallFrom(ctx).Caller.May(auth.WriteProviders) {
		// A key that does not open is left out; SigningKey has logged it.
		if key, err := s.providers.SigningKey(p); err == nil {
			http.SigningKey = key.Reveal()
		}
	}
	return out
}
