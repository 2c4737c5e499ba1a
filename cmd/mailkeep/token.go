package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type tokenCommands struct {
	Create createTokenCommand `cmd:"" help:"Make a token and print it, this once."`
	List   listTokensCommand  `cmd:"" help:"List the tokens, oldest first, without their secrets."`
	Revoke revokeTokenCommand `cmd:"" help:"End a token at once."`
}

type createTokenCommand struct {
	Name     string         `arg:"" help:"What the token is for; logs and events show it."`
	Role     []string       `required:"" placeholder:"ROLE" help:"Role to give, such as IAM_OWNER or IAM_OWNER_VIEWER; may be repeated."`
	Lifetime *time.Duration `placeholder:"TIME" help:"How long the token works, such as 720h (for ever)."`
	connection
}

// Help implements kong.HelpProvider.
func (*createTokenCommand) Help() string {
	return `Standard output has the token and nothing else, so that it can go where it is used:

    (umask 077; mailkeep token create terraform --role IAM_OWNER --lifetime 720h > terraform.token)

IAM_OWNER may do everything but rotate keys, IAM_OWNER_VIEWER may look. MESSAGE_SENDER is for
applications: it may send mails and see what became of them.`
}

// Validate implements kong's check of the flags.
func (t *createTokenCommand) Validate() error {
	if t.Lifetime != nil && *t.Lifetime <= 0 {
		return errors.New("--lifetime must be more than nothing; leave it out for ever")
	}
	return nil
}

// Run implements the command.
func (t *createTokenCommand) Run(ctx context.Context, c *client) error {
	req := &mailkeepv1.CreateTokenRequest{Name: t.Name, Roles: t.Role}
	if t.Lifetime != nil {
		req.Lifetime = durationpb.New(*t.Lifetime)
	}
	res, err := c.tokens.CreateToken(ctx, req)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(res)
	}
	c.note("token %s with %s, %s; it is not shown again", res.GetToken().GetId(),
		strings.Join(res.GetToken().GetRoles(), ", "), until(res.GetToken()))
	_, err = fmt.Fprintln(c.out, res.GetSecret())
	return err
}

func until(t *mailkeepv1.Token) string {
	if t.GetExpirationDate() == nil {
		return "for ever"
	}
	return "until " + local(t.GetExpirationDate())
}

type listTokensCommand struct{ connection }

// Run implements the command.
func (*listTokensCommand) Run(ctx context.Context, c *client) error {
	res, err := c.tokens.ListTokens(ctx, &mailkeepv1.ListTokensRequest{})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, t := range res.GetTokens() {
		expires := local(t.GetExpirationDate())
		if expires == "" {
			expires = "never"
		}
		rows = append(rows, []string{t.GetId(), t.GetName(), strings.Join(t.GetRoles(), ","), local(t.GetCreationDate()), expires})
	}
	return c.table(res, []string{"ID", "NAME", "ROLES", "CREATED", "EXPIRES"}, rows)
}

type revokeTokenCommand struct {
	ID string `arg:"" name:"id" help:"Id of the token, as the list shows it."`
	connection
}

// Run implements the command.
func (r *revokeTokenCommand) Run(ctx context.Context, c *client) error {
	res, err := c.tokens.RevokeToken(ctx, &mailkeepv1.RevokeTokenRequest{Id: r.ID})
	if err != nil {
		return err
	}
	return c.object(res, field{"revoked", r.ID})
}
