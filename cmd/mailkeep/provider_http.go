package main

import (
	"context"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
)

type addHTTPCommand struct {
	Endpoint    string `required:"" placeholder:"URL" help:"Where mails are posted to, as signed JSON."`
	Description string `placeholder:"TEXT" help:"Free text for people."`
	connection
}

// Help implements kong.HelpProvider.
func (*addHTTPCommand) Help() string {
	return `The answer has the key that requests are signed with. The receiver checks the header
ZITADEL-Signature, t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">:

    mailkeep provider add-http --endpoint https://hooks.example.com/mail`
}

// Run implements the command.
func (a *addHTTPCommand) Run(ctx context.Context, c *client) error {
	res, err := c.providers.AddEmailProviderHTTP(ctx,
		&adminv1.AddEmailProviderHTTPRequest{Endpoint: a.Endpoint, Description: a.Description})
	if err != nil {
		return err
	}
	return c.changed(res.GetId(), res, field{"signing-key", res.GetSigningKey()})
}
