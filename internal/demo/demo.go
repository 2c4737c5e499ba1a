// Package demo runs the service beside a mail server of its own, for people who want to see a
// password rotation before they trust one.
package demo

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// nextPassword is the password of the example in the admin API's public documentation. The inbox
// knows it beside the one in use, as a mail server does in a rotation without a gap.
const nextPassword = "this-is-my-updated-password"

// Run serves with a new data folder, which is removed at the end, until ctx ends. A rotation, and
// what can be tried, is printed to out.
func Run(ctx context.Context, c app.Config, out io.Writer) (err error) {
	if c.DataDir, err = os.MkdirTemp("", "mailkeep-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.DataDir)) }()
	c.KeysetFile, c.AdminToken = "", secret.Text{}

	inbox, err := startInbox(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, inbox.close()) }()

	service, err := app.Open(ctx, c)
	if err != nil {
		return err
	}
	d := &demo{service: service, inbox: inbox, out: out, patience: patience}
	if err := d.addProvider(ctx); err != nil {
		return errors.Join(err, service.Close())
	}
	return d.serve(ctx)
}

// patience bounds each step of the rotation that is shown, which takes some milliseconds.
const patience = 5 * time.Second

// demo is a service with an inbox.
type demo struct {
	service  *app.App
	inbox    *inbox
	out      io.Writer
	patience time.Duration
	provider string // id of the active one, which points at the inbox
	mail     string // id of the last mail that was sent
}

// by is who makes the changes of the demo.
var by = emailprovider.Caller{
	Instance: instance.Default, Actor: emailprovider.Actor{Name: "demo", Protocol: "internal", Procedure: "demo"},
}

func (d *demo) addProvider(ctx context.Context) error {
	p, err := d.service.Providers.AddSMTP(ctx, by, emailprovider.SMTPSettings{
		Description: "the inbox of the demo", SenderAddress: "mailkeep@example.com", SenderName: "Mailkeep demo",
		Host: d.inbox.smtp.Addr(), User: user, Auth: emailprovider.AuthSettings{Secret: d.inbox.first},
	})
	if err != nil {
		return err
	}
	d.provider = p.ID
	_, err = d.service.Providers.Activate(ctx, by, p.ID)
	return err
}

// serve runs the service, and meanwhile shows what it does: mails are sent only while it runs.
func (d *demo) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- d.service.Run(ctx)
	}()
	if err := d.show(ctx); err != nil {
		cancel()
		return errors.Join(err, <-ended)
	}
	return <-ended
}

func (d *demo) show(ctx context.Context) error {
	if err := d.printWhere(); err != nil {
		return err
	}
	for i, step := range d.rotation() {
		if err := d.printStep(ctx, i+1, step); err != nil {
			return err
		}
	}
	d.inbox.smtp.AllowPassword(user, nextPassword)
	d.inbox.announce()
	return d.printCommands()
}
