package main

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
)

type listProvidersCommand struct {
	Limit       uint32 `placeholder:"N" help:"Show at most this many (1000, which is also the most)."`
	Offset      uint64 `placeholder:"N" help:"Leave out this many at the start."`
	OldestFirst bool   `help:"Turn the order around."`
	connection
}

// Run implements the command.
func (l *listProvidersCommand) Run(ctx context.Context, c *client) error {
	res, err := c.providers.ListEmailProviders(ctx, &adminv1.ListEmailProvidersRequest{
		Query: &zitadelv1.ListQuery{Limit: l.Limit, Offset: l.Offset, Asc: l.OldestFirst},
	})
	if err != nil {
		return err
	}
	if shown := l.Offset + uint64(len(res.GetResult())); shown < res.GetDetails().GetTotalResult() {
		c.note("There are %d providers; --offset %d shows the next.", res.GetDetails().GetTotalResult(), shown)
	}
	var rows [][]string
	for _, p := range res.GetResult() {
		rows = append(rows, row(p))
	}
	return c.table(res, []string{"ID", "STATE", "SERVER", "SENDER", "AUTH", "CHANGED", "DESCRIPTION"}, rows)
}

func row(p *settingsv1.EmailProvider) []string {
	server, sender, auth := p.GetHttp().GetEndpoint(), "", ""
	if s := p.GetSmtp(); s != nil {
		server, sender, auth = s.GetHost(), s.GetSenderAddress(), string(authOf(s))
	}
	return []string{p.GetId(), stateOf(p), server, sender, auth, local(p.GetDetails().GetChangeDate()), p.GetDescription()}
}

type getProviderCommand struct {
	ID string `arg:"" optional:"" name:"id" help:"Id of the provider (the active one)."`
	connection
}

// Run implements the command.
func (g *getProviderCommand) Run(ctx context.Context, c *client) error {
	if g.ID != "" {
		res, err := c.providers.GetEmailProviderById(ctx, &adminv1.GetEmailProviderByIdRequest{Id: g.ID})
		if err != nil {
			return err
		}
		return c.show(res, res.GetConfig())
	}
	res, err := c.providers.GetEmailProvider(ctx, &adminv1.GetEmailProviderRequest{})
	if err != nil {
		return err
	}
	return c.show(res, res.GetConfig())
}

// show prints a provider; the keys are the names of the flags that change the values.
func (c *client) show(answer proto.Message, p *settingsv1.EmailProvider) error {
	fields := []field{{"id", p.GetId()}, {"state", stateOf(p)}}
	if p.GetHttp() != nil {
		fields = append(fields, field{"endpoint", p.GetHttp().GetEndpoint()})
		if p.GetHttp().GetSigningKey() != "" {
			fields = append(fields, field{"signing-key", "(--json shows it)"})
		}
	} else {
		fields = append(fields, smtpFields(p.GetSmtp())...)
	}
	details := p.GetDetails()
	return c.object(answer, append(fields,
		field{"description", p.GetDescription()},
		field{"sequence", fmt.Sprint(details.GetSequence())},
		field{"created", local(details.GetCreationDate())},
		field{"changed", local(details.GetChangeDate())},
	)...)
}

func smtpFields(s *settingsv1.EmailProviderSMTP) []field {
	x := s.GetXoauth2()
	fields := []field{
		{"host", s.GetHost()},
		{"tls", strconv.FormatBool(s.GetTls())},
		{"sender-address", s.GetSenderAddress()},
		{"sender-name", s.GetSenderName()},
		{"reply-to", s.GetReplyToAddress()},
		{"user", s.GetUser()},
		{"auth", string(authOf(s))},
		{"token-endpoint", x.GetTokenEndpoint()},
		{"client-id", x.GetClientCredentials().GetClientId()},
	}
	for _, scope := range x.GetScopes() {
		fields = append(fields, field{"scope", scope})
	}
	return fields
}

func stateOf(p *settingsv1.EmailProvider) string {
	if p.GetState() == settingsv1.EmailProviderState_EMAIL_PROVIDER_ACTIVE {
		return "active"
	}
	return "inactive"
}
