package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type verifyCommand struct {
	ID            string  `arg:"" optional:"" name:"id" help:"Id of the provider; without it --host says what to verify."`
	Host          *string `group:"SMTP:" placeholder:"HOST:PORT" help:"The mail server (the stored one)."`
	TLS           *bool   `name:"tls" negatable:"" group:"SMTP:" help:"TLS or nothing; --no-tls is plain text (as stored, else --tls)."`
	User          *string `group:"SMTP:" placeholder:"USER" help:"User to authenticate as (the stored one, else none)."`
	PasswordStdin bool    `group:"SMTP:" help:"Read the password from standard input, without echo at a terminal (the stored one)."`
	SenderAddress *string `group:"SMTP:" placeholder:"ADDRESS" help:"Sender to try together with --recipient (the stored one)."`
	Recipient     string  `placeholder:"ADDRESS" help:"Ask also whether the server would take a mail to this address (no)."`
	connection
}

// Help implements kong.HelpProvider.
func (*verifyCommand) Help() string {
	return `Connects as for a mail, logs in, and prints each step; the exit status is 1 if one fails. Nothing
is sent and nothing is stored:

    mailkeep provider verify 123456789012345678

Settings that are given take the place of the stored ones:

    mailkeep provider verify 123456789012345678 --password-stdin < password.txt

Without an id, settings that no provider has yet:

    mailkeep provider verify --host smtp.example.com:587 --user no-reply@example.com --password-stdin < password.txt`
}

// AfterApply refuses flags that do not go together, before anything is asked or sent.
func (v *verifyCommand) AfterApply(s streams) error {
	_, canAsk := s.terminal()
	hasUser := v.User != nil && *v.User != ""
	switch {
	case v.ID == "" && v.Host == nil:
		return errors.New("provider verify: name a provider by its id, or a mail server with --host")
	case v.ID == "" && hasUser && !v.PasswordStdin && !canAsk:
		return errors.New("provider verify: the password is missing: --password-stdin reads it from standard input")
	case v.ID == "" && v.PasswordStdin && !hasUser:
		return errors.New("provider verify: --password-stdin needs --user")
	}
	return nil
}

// Run implements the command.
func (v *verifyCommand) Run(ctx context.Context, c *client) error {
	settings, err := v.settings(ctx, c)
	if err != nil {
		return err
	}
	if v.ID == "" {
		res, err := c.credentials.VerifySettings(ctx, &mailkeepv1.VerifySettingsRequest{Smtp: settings, Recipient: v.Recipient})
		if err != nil {
			return err
		}
		return c.verified(res, res.GetReport())
	}
	res, err := c.credentials.VerifyProvider(ctx, &mailkeepv1.VerifyProviderRequest{Id: v.ID, Smtp: settings, Recipient: v.Recipient})
	if err != nil {
		return err
	}
	return c.verified(res, res.GetReport())
}

// settings are what the flags say, and for a stored provider what it has besides; nil for nothing
// but that.
func (v *verifyCommand) settings(ctx context.Context, c *client) (*mailkeepv1.SMTPSettings, error) {
	settings := &mailkeepv1.SMTPSettings{Tls: true}
	if v.ID != "" {
		if v.Host == nil && v.TLS == nil && v.User == nil && v.SenderAddress == nil && !v.PasswordStdin {
			return nil, nil
		}
		p, err := c.provider(ctx, v.ID)
		if err != nil {
			return nil, err
		}
		s := p.GetSmtp()
		if s == nil {
			return nil, fmt.Errorf("%s is an HTTP provider, which can't be verified", v.ID)
		}
		settings = &mailkeepv1.SMTPSettings{Host: s.GetHost(), Tls: s.GetTls(), User: s.GetUser(), SenderAddress: s.GetSenderAddress()}
	}
	settings.Host = or(v.Host, settings.GetHost())
	settings.Tls = or(v.TLS, settings.GetTls())
	settings.User = or(v.User, settings.GetUser())
	settings.SenderAddress = or(v.SenderAddress, settings.GetSenderAddress())
	if v.PasswordStdin || v.ID == "" && settings.GetUser() != "" {
		plain, err := c.readSecret(ctx, "password")
		if err != nil {
			return nil, err
		}
		settings.Password = plain.Reveal()
	}
	return settings, nil
}

// verified prints a report, and fails if a step has.
func (c *client) verified(answer proto.Message, report *mailkeepv1.VerificationReport) error {
	show := func() error { return c.printSteps(report.GetSteps()...) }
	if c.json {
		show = func() error { return c.printJSON(answer) }
	}
	if err := show(); err != nil {
		return err
	}
	return failureOf(report)
}
