package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
)

// updateCommand changes the settings whose flags are given. On the wire an update replaces them all,
// so it reads the others first.
type updateCommand struct {
	target
	SenderAddress *string `group:"SMTP:" placeholder:"ADDRESS" help:"Address that mails come from."`
	SenderName    *string `group:"SMTP:" placeholder:"NAME" help:"Name that mails come from."`
	Host          *string `group:"SMTP:" placeholder:"HOST:PORT" help:"The mail server."`
	TLS           *bool   `name:"tls" negatable:"" group:"SMTP:" help:"TLS or nothing; --no-tls is plain text."`
	ReplyTo       *string `group:"SMTP:" placeholder:"ADDRESS" help:"Address that answers go to."`
	User          *string `group:"SMTP:" placeholder:"USER" help:"User to authenticate as."`
	authFlags     `set:"auth_default=as it is"`
	Endpoint      *string `group:"HTTP:" placeholder:"URL" help:"Where mails are posted to."`
	NewSigningKey bool    `group:"HTTP:" help:"Make a new signing key and print it; the old one stops at once."`
	Description   *string `placeholder:"TEXT" help:"Free text for people."`
	connection

	given map[string][]string // names of the flags given, by their group
}

// Help implements kong.HelpProvider.
func (*updateCommand) Help() string {
	return `Settings without a flag stay as they are, the secret too; an empty value clears a setting:

    mailkeep provider update 123456789012345678 --sender-name "Example Inc." --reply-to ""

A stored secret belongs to its server and user. To change host, user or --no-tls, give it again:

    mailkeep provider update 123456789012345678 --host smtp2.example.com:587 --password-stdin < password.txt`
}

// AfterApply sorts the flags by the kind of provider they are for.
func (u *updateCommand) AfterApply(k *kong.Context) error {
	u.given = map[string][]string{}
	for _, step := range k.Path {
		if step.Flag != nil && step.Flag.Group != nil {
			u.given[step.Flag.Group.Key] = append(u.given[step.Flag.Group.Key], "--"+step.Flag.Name)
		}
	}
	if len(u.given["SMTP:"])+len(u.given["HTTP:"]) == 0 && u.Description == nil {
		return errors.New("provider update: nothing to change; name a setting with its flag")
	}
	return nil
}

// Run implements the command.
func (u *updateCommand) Run(ctx context.Context, c *client) error {
	p, err := c.provider(ctx, u.ID)
	if err != nil {
		return err
	}
	group, kind, run := "HTTP:", "SMTP", u.updateSMTP
	if p.GetHttp() != nil {
		group, kind, run = "SMTP:", "HTTP", u.updateHTTP
	}
	if wrong := u.given[group]; len(wrong) > 0 {
		return fmt.Errorf("%s is an %s provider, which has no %s", u.ID, kind, strings.Join(wrong, ", "))
	}
	return run(ctx, c, p)
}

func (u *updateCommand) updateHTTP(ctx context.Context, c *client, p *settingsv1.EmailProvider) error {
	req := &adminv1.UpdateEmailProviderHTTPRequest{
		Id:          u.ID,
		Endpoint:    or(u.Endpoint, p.GetHttp().GetEndpoint()),
		Description: or(u.Description, p.GetDescription()),
	}
	if u.NewSigningKey {
		req.ExpirationSigningKey = durationpb.New(0)
	}
	res, err := c.providers.UpdateEmailProviderHTTP(ctx, req)
	if err != nil {
		return err
	}
	return c.changed(u.ID, res, field{"signing-key", res.GetSigningKey()})
}

func (u *updateCommand) updateSMTP(ctx context.Context, c *client, p *settingsv1.EmailProvider) error {
	s := p.GetSmtp()
	req := &adminv1.UpdateEmailProviderSMTPRequest{
		Id:             u.ID,
		SenderAddress:  or(u.SenderAddress, s.GetSenderAddress()),
		SenderName:     or(u.SenderName, s.GetSenderName()),
		Tls:            or(u.TLS, s.GetTls()),
		Host:           or(u.Host, s.GetHost()),
		User:           or(u.User, s.GetUser()),
		ReplyToAddress: or(u.ReplyTo, s.GetReplyToAddress()),
		Description:    or(u.Description, p.GetDescription()),
	}
	if err := u.authenticate(ctx, c, s, req); err != nil {
		return err
	}
	res, err := c.providers.UpdateEmailProviderSMTP(ctx, req)
	if err != nil {
		return explainBinding(err, authOf(s))
	}
	return c.changed(u.ID, res)
}

// or returns what was given, else what is stored.
func or[T any](given *T, stored T) T {
	if given != nil {
		return *given
	}
	return stored
}
