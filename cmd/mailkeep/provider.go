package main

import (
	"context"
	"errors"
	"fmt"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
)

type providerCommands struct {
	List        listProvidersCommand `cmd:"" help:"List the providers, newest first."`
	Get         getProviderCommand   `cmd:"" help:"Show one provider, by default the active one."`
	AddSMTP     addSMTPCommand       `cmd:"" name:"add-smtp" help:"Add an SMTP server; it starts inactive."`
	AddHTTP     addHTTPCommand       `cmd:"" name:"add-http" help:"Add an HTTP webhook; it starts inactive."`
	Update      updateCommand        `cmd:"" help:"Change some settings of a provider and leave the others."`
	SetPassword setPasswordCommand   `cmd:"" help:"Store a new password for an SMTP provider."`
	Activate    activateCommand      `cmd:"" help:"Send mail through this provider, and no more through the one before."`
	Deactivate  deactivateCommand    `cmd:"" help:"Send no more mail through this provider."`
	Rotate      rotateCommand        `cmd:"" help:"Change the password of an SMTP provider once the mail server accepts the new one."`
	Rollback    rollbackCommand      `cmd:"" help:"Bring back the password before the present one."`
	Verify      verifyCommand        `cmd:"" help:"Log in to a mail server and report every step; nothing is sent."`
	Trust       trustCommand         `cmd:"" help:"Show or set the certificate authorities that a provider's server is trusted by."`
	Status      statusCommand        `cmd:"" help:"Show which password is in use, since when, and what came of it."`
	Events      eventsCommand        `cmd:"" help:"List who changed what of a provider, oldest first."`
	Remove      removeCommand        `cmd:"" help:"Remove a provider for good, with its secrets."`
	Test        testCommand          `cmd:"" help:"Send a test mail through an SMTP provider, active or not."`
}

// target is the provider that a command is about.
type target struct {
	ID string `arg:"" name:"id" help:"Id of the provider, as the list shows it."`
}

type activateCommand struct {
	target
	connection
}

// Run implements the command.
func (a *activateCommand) Run(ctx context.Context, c *client) error {
	res, err := c.providers.ActivateEmailProvider(ctx, &adminv1.ActivateEmailProviderRequest{Id: a.ID})
	if err != nil {
		return err
	}
	return c.changed(a.ID, res)
}

type deactivateCommand struct {
	target
	connection
}

// Run implements the command.
func (d *deactivateCommand) Run(ctx context.Context, c *client) error {
	res, err := c.providers.DeactivateEmailProvider(ctx, &adminv1.DeactivateEmailProviderRequest{Id: d.ID})
	if err != nil {
		return err
	}
	return c.changed(d.ID, res)
}

type removeCommand struct {
	target
	Yes bool `short:"y" help:"Don't ask; needed where nobody can be asked."`
	connection
}

// AfterApply refuses to ask where nobody can answer.
func (r *removeCommand) AfterApply(s streams) error {
	if _, ok := s.terminal(); !ok && !r.Yes {
		return errors.New("provider remove: --yes is needed when standard input is not a terminal")
	}
	return nil
}

// Run implements the command.
func (r *removeCommand) Run(ctx context.Context, c *client) error {
	if !r.Yes {
		if ok, err := r.confirm(ctx, c); err != nil {
			return err
		} else if !ok {
			return errors.New("nothing was removed")
		}
	}
	res, err := c.providers.RemoveEmailProvider(ctx, &adminv1.RemoveEmailProviderRequest{Id: r.ID})
	if err != nil {
		return err
	}
	return c.changed(r.ID, res)
}

func (r *removeCommand) confirm(ctx context.Context, c *client) (bool, error) {
	p, err := c.provider(ctx, r.ID)
	if err != nil {
		return false, err
	}
	return c.confirm(ctx, printable(fmt.Sprintf("Remove the %s provider %s (%s) and its secrets for good?",
		stateOf(p), r.ID, p.GetSmtp().GetHost()+p.GetHttp().GetEndpoint())))
}

type testCommand struct {
	target
	To string `required:"" placeholder:"ADDRESS" help:"Address that the test mail goes to."`
	connection
}

// Help implements kong.HelpProvider.
func (*testCommand) Help() string {
	return `The mail goes the way of every mail: with the stored settings and the stored password. When it
fails, the answer names the step and repeats what the mail server said:

    mailkeep provider test 123456789012345678 --to you@example.com`
}

// Run implements the command.
func (t *testCommand) Run(ctx context.Context, c *client) error {
	res, err := c.providers.TestEmailProviderSMTPById(ctx,
		&adminv1.TestEmailProviderSMTPByIdRequest{Id: t.ID, ReceiverAddress: t.To})
	if err != nil {
		return err
	}
	return c.object(res, field{"id", t.ID}, field{"accepted for", t.To})
}

// provider returns a provider by its id.
func (c *client) provider(ctx context.Context, id string) (*settingsv1.EmailProvider, error) {
	res, err := c.providers.GetEmailProviderById(ctx, &adminv1.GetEmailProviderByIdRequest{Id: id})
	return res.GetConfig(), err
}
