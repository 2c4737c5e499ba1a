package main

import (
	"context"
	"errors"
	"fmt"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
)

type addSMTPCommand struct {
	SenderAddress string `required:"" group:"SMTP:" placeholder:"ADDRESS" help:"Address that mails come from."`
	SenderName    string `required:"" group:"SMTP:" placeholder:"NAME" help:"Name that mails come from."`
	Host          string `required:"" group:"SMTP:" placeholder:"HOST:PORT" help:"The mail server."`
	TLS           bool   `name:"tls" default:"true" negatable:"" group:"SMTP:" help:"TLS or nothing; --no-tls is plain text (--tls)."`
	ReplyTo       string `group:"SMTP:" placeholder:"ADDRESS" help:"Address that answers go to (none)."`
	User          string `group:"SMTP:" placeholder:"USER" help:"User to authenticate as (none)."`
	authFlags     `set:"auth_default=plain if there is a user"`
	Description   string `placeholder:"TEXT" help:"Free text for people."`
	connection
}

// Help implements kong.HelpProvider.
func (*addSMTPCommand) Help() string {
	return `At a terminal the password is asked for. A script brings it on standard input:

    mailkeep provider add-smtp --host smtp.example.com:587 --sender-address no-reply@example.com \
      --sender-name Example --user no-reply@example.com --password-stdin < password.txt

OAuth 2.0 client credentials instead of a password:

    mailkeep provider add-smtp --host smtp.example.com:587 --sender-address no-reply@example.com \
      --sender-name Example --user no-reply@example.com --auth xoauth2 --client-id mailkeep \
      --token-endpoint https://login.example.com/token --scope smtp.send --client-secret-stdin < secret.txt

Then test it and activate it; the answer has the id:

    mailkeep provider test ID --to you@example.com
    mailkeep provider activate ID`
}

func (a *addSMTPCommand) kind() authKind {
	switch {
	case a.Auth != "":
		return a.Auth
	case a.User != "":
		return authPlain
	}
	return authNone
}

// AfterApply refuses flags that do not go together, before anything is asked or sent.
func (a *addSMTPCommand) AfterApply(s streams) error {
	if err := a.check(a.kind()); err != nil {
		return fmt.Errorf("provider add-smtp: %w", err)
	}
	if a.kind() == authPlain && a.User == "" {
		return errors.New("provider add-smtp: --auth plain needs --user")
	}
	if err := a.checkNew(a.kind(), s); err != nil {
		return fmt.Errorf("provider add-smtp: %w", err)
	}
	return nil
}

// Run implements the command.
func (a *addSMTPCommand) Run(ctx context.Context, c *client) error {
	req := &adminv1.AddEmailProviderSMTPRequest{
		SenderAddress: a.SenderAddress, SenderName: a.SenderName, Tls: a.TLS, Host: a.Host, User: a.User,
		ReplyToAddress: a.ReplyTo, Description: a.Description,
	}
	if err := a.authenticate(ctx, c, req); err != nil {
		return err
	}
	res, err := c.providers.AddEmailProviderSMTP(ctx, req)
	if err != nil {
		return err
	}
	return c.changed(res.GetId(), res)
}

// authenticate puts the secret into the request. A password goes without the oneof, whose own field
// is shorter than what passwords may be.
func (a *addSMTPCommand) authenticate(ctx context.Context, c *client, req *adminv1.AddEmailProviderSMTPRequest) error {
	if a.kind() == authNone {
		req.Auth = &adminv1.AddEmailProviderSMTPRequest_None{None: &adminv1.SMTPNoAuth{}}
		return nil
	}
	plain, err := c.readSecret(ctx, a.kind().secretName())
	if err != nil {
		return err
	}
	if a.kind() == authPlain {
		req.Password = plain.Reveal()
		return nil
	}
	req.Auth = &adminv1.AddEmailProviderSMTPRequest_Xoauth2{
		Xoauth2: xoauth2(*a.TokenEndpoint, *a.ClientID, a.scopes(), plain),
	}
	return nil
}

type setPasswordCommand struct {
	target
	connection
}

// Help implements kong.HelpProvider.
func (*setPasswordCommand) Help() string {
	return `At a terminal the password is asked for and not shown. Else it is all of standard input,
without one newline at its end:

    mailkeep provider set-password 123456789012345678 < password.txt

The next mail authenticates with the new password, whether the mail server takes it or not. To store
one only if it does:

    mailkeep provider rotate 123456789012345678 < password.txt`
}

// Run implements the command.
func (s *setPasswordCommand) Run(ctx context.Context, c *client) error {
	plain, err := c.readSecret(ctx, "password")
	if err != nil {
		return err
	}
	res, err := c.providers.UpdateEmailProviderSMTPPassword(ctx,
		&adminv1.UpdateEmailProviderSMTPPasswordRequest{Id: s.ID, Password: plain.Reveal()})
	if err != nil {
		return err
	}
	return c.changed(s.ID, res)
}
