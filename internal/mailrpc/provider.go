package mailrpc

import (
	"context"
	"errors"
	"time"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// EmailProviders changes and verifies providers; see emailprovider.Service.
type EmailProviders interface {
	Get(ctx context.Context, instance, id string) (emailprovider.Provider, error)
	Events(ctx context.Context, instance, id string, after uint64, limit int) (page []emailprovider.Event, next uint64, err error)
	VerifyStored(ctx context.Context, c emailprovider.Caller, id string, in *emailprovider.VerifyValues, recipient string) (emailprovider.Report, error)
	VerifyNew(ctx context.Context, c emailprovider.Caller, in emailprovider.VerifyValues, recipient string) (emailprovider.Report, error)
	RotatePassword(ctx context.Context, c emailprovider.Caller, id string, in emailprovider.Rotation, progress func(emailprovider.StepReport)) (emailprovider.Provider, emailprovider.Report, error)
	RollbackPassword(ctx context.Context, c emailprovider.Caller, id string, mode emailprovider.VerifyMode, progress func(emailprovider.StepReport)) (emailprovider.Provider, emailprovider.Report, error)
	SetCA(ctx context.Context, c emailprovider.Caller, id, text string) (emailprovider.Provider, error)
}

// Uses knows what came of using credentials; see outbox.Service.
type Uses interface {
	Uses(ctx context.Context, instance, providerID string, limit int) ([]outbox.Use, error)
}

// Providers implements ProviderService.
type Providers struct {
	providers  EmailProviders
	uses       Uses
	deprecated func(procedure string) bool
	now        func() time.Time
}

var _ mailkeepv1connect.ProviderServiceHandler = Providers{}

// NewProviders returns the service; deprecated tells the procedures that are, and now is time.Now
// outside of tests.
func NewProviders(providers EmailProviders, uses Uses, deprecated func(procedure string) bool, now func() time.Time) Providers {
	return Providers{providers, uses, deprecated, now}
}

// maxFormer is how many former versions of a credential a status has.
const maxFormer = 10

// GetProviderStatus implements ProviderService.
func (s Providers) GetProviderStatus(ctx context.Context, req *mailkeepv1.GetProviderStatusRequest) (*mailkeepv1.GetProviderStatusResponse, error) {
	p, err := s.providers.Get(ctx, instance(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	uses, err := s.uses.Uses(ctx, instance(ctx), p.ID, maxFormer+1)
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.GetProviderStatusResponse{Status: encodeStatus(p, uses, s.now())}, nil
}

// ListProviderEvents implements ProviderService.
func (s Providers) ListProviderEvents(ctx context.Context, req *mailkeepv1.ListProviderEventsRequest) (*mailkeepv1.ListProviderEventsResponse, error) {
	events, next, err := s.providers.Events(ctx, instance(ctx), req.GetId(), req.GetAfterSequence(), decodePageSize(req.GetPageSize()))
	if err != nil {
		return nil, err
	}
	res := &mailkeepv1.ListProviderEventsResponse{NextAfterSequence: next}
	for _, e := range events {
		res.Events = append(res.Events, encodeEvent(e, s.deprecated(e.By.Procedure)))
	}
	return res, nil
}

// VerifyProvider implements ProviderService.
func (s Providers) VerifyProvider(ctx context.Context, req *mailkeepv1.VerifyProviderRequest) (*mailkeepv1.VerifyProviderResponse, error) {
	var values *emailprovider.VerifyValues
	if req.GetSmtp() != nil {
		values = new(decodeSMTP(req.GetSmtp()))
	}
	report, err := s.providers.VerifyStored(ctx, caller(ctx), req.GetId(), values, req.GetRecipient())
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.VerifyProviderResponse{Report: encodeReport(report)}, nil
}

// VerifySettings implements ProviderService.
func (s Providers) VerifySettings(ctx context.Context, req *mailkeepv1.VerifySettingsRequest) (*mailkeepv1.VerifySettingsResponse, error) {
	if req.GetSmtp() == nil {
		return nil, badValue("smtp is missing")
	}
	report, err := s.providers.VerifyNew(ctx, caller(ctx), decodeSMTP(req.GetSmtp()), req.GetRecipient())
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.VerifySettingsResponse{Report: encodeReport(report)}, nil
}

// RotatePassword implements ProviderService.
func (s Providers) RotatePassword(ctx context.Context, req *mailkeepv1.RotatePasswordRequest) (*mailkeepv1.RotatePasswordResponse, error) {
	return s.rotate(ctx, req, nil)
}

// WatchRotatePassword implements ProviderService.
func (s Providers) WatchRotatePassword(ctx context.Context, req *mailkeepv1.WatchRotatePasswordRequest, stream mailkeepv1connect.ProviderServiceWatchRotatePasswordServerStream) error {
	if req.GetRotation() == nil {
		return badValue("rotation is missing")
	}
	res, err := s.rotate(ctx, req.GetRotation(), func(step emailprovider.StepReport) {
		// Whether a step can be shown does not decide the rotation; a caller that went away ends ctx.
		_ = stream.Send(&mailkeepv1.WatchRotatePasswordResponse{
			Progress: &mailkeepv1.WatchRotatePasswordResponse_Step{Step: encodeStep(step)},
		})
	})
	if err != nil {
		return err
	}
	return stream.Send(&mailkeepv1.WatchRotatePasswordResponse{
		Progress: &mailkeepv1.WatchRotatePasswordResponse_Result{Result: res},
	})
}

func (s Providers) rotate(ctx context.Context, req *mailkeepv1.RotatePasswordRequest, progress func(emailprovider.StepReport)) (*mailkeepv1.RotatePasswordResponse, error) {
	rotation, err := decodeRotation(req)
	if err != nil {
		return nil, err
	}
	p, report, err := s.providers.RotatePassword(ctx, caller(ctx), req.GetId(), rotation, progress)
	if err != nil {
		return nil, explain(err)
	}
	return &mailkeepv1.RotatePasswordResponse{
		CredentialVersion: p.Credential.Version, ChangeDate: encodeTime(p.Changed), Report: encodeVerified(report, rotation.Verify),
	}, nil
}

// RollbackPassword implements ProviderService.
func (s Providers) RollbackPassword(ctx context.Context, req *mailkeepv1.RollbackPasswordRequest) (*mailkeepv1.RollbackPasswordResponse, error) {
	mode, err := decodeVerifyMode(req.GetVerify())
	if err != nil {
		return nil, err
	}
	p, report, err := s.providers.RollbackPassword(ctx, caller(ctx), req.GetId(), mode, nil)
	if err != nil {
		return nil, explain(err)
	}
	return &mailkeepv1.RollbackPasswordResponse{
		CredentialVersion: p.Credential.Version, ChangeDate: encodeTime(p.Changed), Report: encodeVerified(report, mode),
	}, nil
}

// GetProviderCA implements ProviderService.
func (s Providers) GetProviderCA(ctx context.Context, req *mailkeepv1.GetProviderCARequest) (*mailkeepv1.GetProviderCAResponse, error) {
	p, err := s.providers.Get(ctx, instance(ctx), req.GetId())
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.GetProviderCAResponse{CaPem: p.CA, Certificates: encodeCertificates(p.Authorities())}, nil
}

// SetProviderCA implements ProviderService.
func (s Providers) SetProviderCA(ctx context.Context, req *mailkeepv1.SetProviderCARequest) (*mailkeepv1.SetProviderCAResponse, error) {
	p, err := s.providers.SetCA(ctx, caller(ctx), req.GetId(), req.GetCaPem())
	if err != nil {
		return nil, err
	}
	return &mailkeepv1.SetProviderCAResponse{ChangeDate: encodeTime(p.Changed), Certificates: encodeCertificates(p.Authorities())}, nil
}

// explain gives the refusal of a password what its verification found.
func explain(err error) error {
	var refused *emailprovider.VerificationError
	if errors.As(err, &refused) {
		return refusal{err, refused.Report}
	}
	return err
}
