package adminrpc

import (
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// smtpConfigRequest is what the requests of Add, Update and Test have in common.
type smtpConfigRequest interface {
	GetSenderAddress() string
	GetSenderName() string
	GetTls() bool
	GetHost() string
	GetUser() string
	GetPassword() string
}

// decodeSMTPConfig leaves authentication to the password: without one, an update can't wipe settings
// that this generation knows nothing of.
func decodeSMTPConfig(req smtpConfigRequest, description, replyTo string) emailprovider.SMTPSettings {
	return emailprovider.SMTPSettings{
		Description:   description,
		SenderAddress: req.GetSenderAddress(),
		SenderName:    req.GetSenderName(),
		ReplyTo:       replyTo,
		Host:          req.GetHost(),
		TLS:           req.GetTls(),
		User:          req.GetUser(),
		Auth:          emailprovider.AuthSettings{Secret: secret.New(req.GetPassword())},
	}
}

func encodeSMTPConfig(p emailprovider.Provider) *settingsv1.SMTPConfig {
	out := &settingsv1.SMTPConfig{
		Details: details(p), Id: p.ID, Description: p.Description,
		SenderAddress: p.SMTP.SenderAddress, SenderName: p.SMTP.SenderName, Tls: p.SMTP.TLS, Host: p.SMTP.Host,
		User: p.SMTP.User, ReplyToAddress: p.SMTP.ReplyTo,
		State: settingsv1.SMTPConfigState_SMTP_CONFIG_INACTIVE,
	}
	if p.State == emailprovider.Active {
		out.State = settingsv1.SMTPConfigState_SMTP_CONFIG_ACTIVE
	}
	return out
}
