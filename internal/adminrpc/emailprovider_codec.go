package adminrpc

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// smtpRequest is what the requests of Add, Update and Test have in common. Their oneof Auth differs
// in Go type and in field numbers, but not in the getters.
type smtpRequest interface {
	GetSenderAddress() string
	GetSenderName() string
	GetTls() bool
	GetHost() string
	GetUser() string
	GetPassword() string
	GetNone() *adminv1.SMTPNoAuth
	GetPlain() *adminv1.SMTPPlainAuth
	GetXoauth2() *adminv1.SMTPXOAuth2Auth
}

func decodeSMTP(req smtpRequest, description, replyTo string) emailprovider.SMTPSettings {
	return emailprovider.SMTPSettings{
		Description:   description,
		SenderAddress: req.GetSenderAddress(),
		SenderName:    req.GetSenderName(),
		ReplyTo:       replyTo,
		Host:          req.GetHost(),
		TLS:           req.GetTls(),
		User:          req.GetUser(),
		Auth:          decodeAuth(req),
	}
}

func decodeAuth(req smtpRequest) emailprovider.AuthSettings {
	switch {
	case req.GetNone() != nil:
		return emailprovider.AuthSettings{Choice: emailprovider.ChooseNone}
	case req.GetPlain() != nil:
		return emailprovider.AuthSettings{
			Choice: emailprovider.ChoosePlain, Secret: secret.New(req.GetPlain().GetPassword()),
		}
	case req.GetXoauth2() != nil:
		x := req.GetXoauth2()
		return emailprovider.AuthSettings{
			Choice: emailprovider.ChooseXOAuth2,
			Secret: secret.New(x.GetClientCredentials().GetClientSecret()),
			XOAuth2: emailprovider.XOAuth2{
				TokenEndpoint: x.GetTokenEndpoint(), ClientID: x.GetClientCredentials().GetClientId(), Scopes: x.GetScopes(),
			},
		}
	default:
		return emailprovider.AuthSettings{Secret: secret.New(req.GetPassword())}
	}
}

func encodeProvider(p emailprovider.Provider) *settingsv1.EmailProvider {
	var out *settingsv1.EmailProvider
	if p.HTTP != nil {
		out = &settingsv1.EmailProvider{
			Config: &settingsv1.EmailProvider_Http{Http: &settingsv1.EmailProviderHTTP{Endpoint: p.HTTP.Endpoint}},
		}
	} else {
		out = encodeSMTP(p.SMTP)
	}
	out.Details, out.Id, out.Description = details(p), p.ID, p.Description
	out.State = settingsv1.EmailProviderState_EMAIL_PROVIDER_INACTIVE
	if p.State == emailprovider.Active {
		out.State = settingsv1.EmailProviderState_EMAIL_PROVIDER_ACTIVE
	}
	return out
}

// What has nothing in it is the same for all.
var (
	noAuth    = &settingsv1.EmailProviderSMTP_None{None: &settingsv1.SMTPNoAuth{}}
	plainAuth = &settingsv1.EmailProviderSMTP_Plain{Plain: &settingsv1.SMTPPlainAuth{}}
)

// encodeSMTP returns a provider with what SMTP is, allocated together.
func encodeSMTP(s *emailprovider.SMTP) *settingsv1.EmailProvider {
	all := new(struct {
		settingsv1.EmailProvider
		config settingsv1.EmailProvider_Smtp
		smtp   settingsv1.EmailProviderSMTP
	})
	all.Config, all.config.Smtp = &all.config, &all.smtp
	out := &all.smtp
	out.SenderAddress, out.SenderName, out.ReplyToAddress = s.SenderAddress, s.SenderName, s.ReplyTo
	out.Host, out.Tls, out.User = s.Host, s.TLS, s.User
	switch s.Auth {
	case emailprovider.AuthPlain:
		out.Auth = plainAuth
	case emailprovider.AuthXOAuth2:
		out.Auth = &settingsv1.EmailProviderSMTP_Xoauth2{Xoauth2: &settingsv1.SMTPXOAuth2Auth{
			TokenEndpoint: s.XOAuth2.TokenEndpoint, Scopes: s.XOAuth2.Scopes,
			OAuth2Type: &settingsv1.SMTPXOAuth2Auth_ClientCredentials_{
				ClientCredentials: &settingsv1.SMTPXOAuth2Auth_ClientCredentials{ClientId: s.XOAuth2.ClientID},
			},
		}}
	default:
		out.Auth = noAuth
	}
	return &all.EmailProvider
}

func query(q *zitadelv1.ListQuery) emailprovider.Query {
	return emailprovider.Query{Offset: q.GetOffset(), Limit: q.GetLimit(), Ascending: q.GetAsc()}
}

func listDetails(page emailprovider.Page, at time.Time) *zitadelv1.ListDetails {
	return &zitadelv1.ListDetails{
		TotalResult: page.Total, ProcessedSequence: page.Sequence, ViewTimestamp: timestamppb.New(at),
	}
}
