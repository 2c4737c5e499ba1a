package main

import (
	"context"
	"errors"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

// verifyFlag says what a verification decides.
type verifyFlag struct {
	Verify string `enum:"enforce,warn,off" default:"enforce" placeholder:"MODE" help:"enforce stores only a password that the mail server accepts, warn any after asking it, off any without asking (${default})."`
}

func (v verifyFlag) mode() mailkeepv1.VerifyMode {
	switch v.Verify {
	case "warn":
		return mailkeepv1.VerifyMode_VERIFY_MODE_WARN
	case "off":
		return mailkeepv1.VerifyMode_VERIFY_MODE_OFF
	}
	return mailkeepv1.VerifyMode_VERIFY_MODE_ENFORCE
}

type rotateCommand struct {
	target
	User *string `placeholder:"USER" help:"New user to authenticate as (the same as before)."`
	verifyFlag
	connection
}

// Help implements kong.HelpProvider.
func (*rotateCommand) Help() string {
	return `Logs in to the mail server with the new password, prints each step as it ends, and stores the
password if the server accepts it. The next mail authenticates with it. One that is refused is not
stored, mails go on with the one before, and the exit status is 1. Nothing is sent.

At a terminal the password is asked for and not shown. Else it is all of standard input, without one
newline at its end:

    mailkeep provider rotate 123456789012345678 < password.txt

Afterwards these show that mails are sent with it, and bring back the one before:

    mailkeep provider status 123456789012345678
    mailkeep provider rollback 123456789012345678`
}

// Run implements the command.
func (r *rotateCommand) Run(ctx context.Context, c *client) error {
	plain, err := c.readSecret(ctx, "new password")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	progress, err := c.live.credentials.WatchRotatePassword(ctx, &mailkeepv1.WatchRotatePasswordRequest{
		Rotation: &mailkeepv1.RotatePasswordRequest{Id: r.ID, Password: plain.Reveal(), User: r.User, Verify: r.mode()},
	})
	if err != nil {
		return c.notStored(r.ID, 0, err)
	}
	shown := 0
	var result *mailkeepv1.RotatePasswordResponse
	err = follow(progress, func(p *mailkeepv1.WatchRotatePasswordResponse) error {
		if p.GetResult() != nil {
			result = p.GetResult()
		}
		if c.json {
			return c.printLine(p)
		}
		if p.GetStep() == nil {
			return nil
		}
		shown++
		return c.printSteps(p.GetStep())
	})
	switch {
	case result != nil && c.json:
		return nil
	case result != nil: // what happens to the stream after it changes nothing
		return c.stored(result)
	case err == nil:
		err = errors.New("the service has ended the stream without a result")
	}
	return c.notStored(r.ID, shown, err)
}

type rollbackCommand struct {
	target
	verifyFlag
	connection
}

// Help implements kong.HelpProvider.
func (*rollbackCommand) Help() string {
	return `The password before, with the user that it belonged to, is stored as a new version, if the mail
server still accepts it. The one that it replaces can be brought back likewise. "mailkeep provider
status" says until when there is one to bring back:

    mailkeep provider rollback 123456789012345678 --verify off`
}

// Run implements the command.
func (r *rollbackCommand) Run(ctx context.Context, c *client) error {
	res, err := c.credentials.RollbackPassword(ctx, &mailkeepv1.RollbackPasswordRequest{Id: r.ID, Verify: r.mode()})
	if err != nil {
		return c.notStored(r.ID, 0, err)
	}
	if c.json {
		return c.printJSON(res)
	}
	if err := c.printSteps(res.GetReport().GetSteps()...); err != nil {
		return err
	}
	return c.stored(res)
}
