package mailrpc

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/rpc"
	"github.com/mailkeep/mailkeep/internal/secret"
)

var verifyModes = map[mailkeepv1.VerifyMode]emailprovider.VerifyMode{
	mailkeepv1.VerifyMode_VERIFY_MODE_UNSPECIFIED: emailprovider.VerifyEnforce,
	mailkeepv1.VerifyMode_VERIFY_MODE_OFF:         emailprovider.VerifyOff,
	mailkeepv1.VerifyMode_VERIFY_MODE_WARN:        emailprovider.VerifyWarn,
	mailkeepv1.VerifyMode_VERIFY_MODE_ENFORCE:     emailprovider.VerifyEnforce,
}

func decodeVerifyMode(mode mailkeepv1.VerifyMode) (emailprovider.VerifyMode, error) {
	m, ok := verifyModes[mode]
	if !ok {
		return "", badValue("verify is no mode that exists")
	}
	return m, nil
}

func decodeRotation(req *mailkeepv1.RotatePasswordRequest) (emailprovider.Rotation, error) {
	mode, err := decodeVerifyMode(req.GetVerify())
	return emailprovider.Rotation{Password: secret.New(req.GetPassword()), User: req.User, Verify: mode}, err
}

func decodeSMTP(s *mailkeepv1.SMTPSettings) emailprovider.VerifyValues {
	return emailprovider.VerifyValues{
		Host: s.GetHost(), TLS: s.GetTls(), User: s.GetUser(), Password: secret.New(s.GetPassword()),
		SenderAddress: s.GetSenderAddress(), CA: s.GetCaPem(),
	}
}

// encodeStatus takes the uses newest first.
func encodeStatus(p emailprovider.Provider, uses []outbox.Use, now time.Time) *mailkeepv1.ProviderStatus {
	current := outbox.Use{Version: p.Credential.Version}
	var former []*mailkeepv1.CredentialUse
	for _, u := range uses {
		switch {
		case u.Version == p.Credential.Version:
			current = u
		case len(former) < maxFormer:
			former = append(former, encodeUse(u))
		}
	}
	out := &mailkeepv1.ProviderStatus{
		Id: p.ID, Active: p.State == emailprovider.Active,
		CredentialVersion: p.Credential.Version, CredentialSetDate: encodeTime(p.Credential.SetAt), CredentialSetBy: p.Credential.SetBy,
		Current: encodeUse(current), Former: former,
		Breaker: mailkeepv1.BreakerState_BREAKER_STATE_CLOSED, NextProbeDate: encodeTime(current.Probe),
		CertificateExpirationDate: encodeTime(current.CertExpires),
	}
	if !current.Probe.IsZero() {
		out.Breaker = mailkeepv1.BreakerState_BREAKER_STATE_OPEN
	}
	if p.Previous.Usable(now) {
		out.RollbackUntilDate, out.RollbackVersion = encodeTime(p.Previous.Until), p.Previous.Version
	}
	return out
}

func encodeUse(u outbox.Use) *mailkeepv1.CredentialUse {
	return &mailkeepv1.CredentialUse{
		Version: u.Version, FirstUsed: encodeTime(u.FirstUsed), LastSuccess: encodeTime(u.LastSuccess),
		LastFailure: encodeTime(u.LastFailure), LastFailureStep: string(u.FailureStep),
		LastFailureCode: encodeCount(u.FailureCode), LastFailureText: u.FailureText,
		Mails: u.Mails, Failures: u.Failures,
	}
}

func encodeEvent(e emailprovider.Event, deprecated bool) *mailkeepv1.ProviderEvent {
	return &mailkeepv1.ProviderEvent{
		Sequence: e.Sequence, Type: string(e.Type), Date: encodeTime(e.At),
		Caller: e.By.Name, TokenId: e.By.TokenID, Protocol: e.By.Protocol, Procedure: e.By.Procedure, Deprecated: deprecated,
		UserAgent: e.By.UserAgent, RequestId: e.By.RequestID,
		Fields: e.Fields, CredentialVersion: e.CredentialVersion, KeptCredential: e.KeptCredential,
	}
}

// encodeVerified leaves out the report of no verification.
func encodeVerified(r emailprovider.Report, mode emailprovider.VerifyMode) *mailkeepv1.VerificationReport {
	if mode == emailprovider.VerifyOff {
		return nil
	}
	return encodeReport(r)
}

func encodeReport(r emailprovider.Report) *mailkeepv1.VerificationReport {
	out := &mailkeepv1.VerificationReport{Passed: r.Passed()}
	for _, s := range r.Steps {
		out.Steps = append(out.Steps, encodeStep(s))
	}
	return out
}

func encodeStep(s emailprovider.StepReport) *mailkeepv1.VerificationStep {
	out := &mailkeepv1.VerificationStep{
		Step: s.Name, Passed: s.Passed, Duration: durationpb.New(s.Took), Code: encodeCount(s.Code), Text: s.Text,
		Capabilities: s.Capabilities, Mechanisms: s.Mechanisms, Mechanism: s.Mechanism,
	}
	if s.TLS != nil {
		out.Tls = &mailkeepv1.TLSDetails{Version: s.TLS.Version, CipherSuite: s.TLS.CipherSuite}
		out.Tls.Chain = encodeCertificates(s.TLS.Chain)
	}
	return out
}

func encodeCertificates(all []emailprovider.Certificate) (out []*mailkeepv1.CertificateDetails) {
	for _, c := range all {
		out = append(out, &mailkeepv1.CertificateDetails{Subject: c.Subject, Issuer: c.Issuer, ExpirationDate: encodeTime(c.Expires)})
	}
	return out
}

// refusal is the error of a password that was refused, with what the steps of its verification found.
type refusal struct {
	error
	report emailprovider.Report
}

var _ rpc.Detailed = refusal{}

// ErrorDetails implements rpc.Detailed.
//
// Over gRPC a detail is a header, which clients bound: of what the server offers and of its chain it has
// the beginning only.
func (r refusal) ErrorDetails() []proto.Message {
	report := encodeReport(r.report)
	for _, s := range report.GetSteps() {
		s.Capabilities = slices.Clone(s.GetCapabilities()[:min(len(s.GetCapabilities()), maxDetailed)])
		s.Mechanisms = s.GetMechanisms()[:min(len(s.GetMechanisms()), maxDetailed)]
		for i, capability := range s.GetCapabilities() {
			s.Capabilities[i] = strings.ToValidUTF8(capability[:min(len(capability), 4*maxDetailed)], "")
		}
		if s.GetTls() != nil {
			s.Tls.Chain = s.GetTls().GetChain()[:min(len(s.GetTls().GetChain()), 3)]
		}
	}
	return []proto.Message{report}
}

// maxDetailed is how many capabilities and mechanisms the detail of an error has.
const maxDetailed = 16

// Unwrap returns the error.
func (r refusal) Unwrap() error { return r.error }
