// Package demo runs the service beside a mail server of its own, for people who want to see a
// password rotation before they trust one.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// nextPassword is the password of the example in the admin API's public documentation. The inbox
// knows it from the start beside the first one, as a mail server does in a rotation without a gap.
const nextPassword = "this-is-my-updated-password"

// Run serves with a new data folder, which is removed at the end, until ctx ends. What can be tried
// is printed to out.
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
	id, err := addProvider(ctx, service.Providers, inbox)
	if err == nil {
		err = show(out, service, inbox, id)
	}
	if err != nil {
		return errors.Join(err, service.Close())
	}
	return service.Run(ctx)
}

// addProvider adds the active provider that points at the inbox.
func addProvider(ctx context.Context, providers *emailprovider.Service, inbox *inbox) (id string, err error) {
	by := emailprovider.Caller{
		Instance: instance.Default, Actor: emailprovider.Actor{Name: "demo", Protocol: "internal", Procedure: "demo"},
	}
	p, err := providers.AddSMTP(ctx, by, emailprovider.SMTPSettings{
		Description: "the inbox of the demo", SenderAddress: "mailkeep@example.com", SenderName: "Mailkeep demo",
		Host: inbox.smtp.Addr(), User: user, Auth: emailprovider.AuthSettings{Secret: inbox.first},
	})
	if err != nil {
		return "", err
	}
	_, err = providers.Activate(ctx, by, p.ID)
	return p.ID, err
}

func show(out io.Writer, service *app.App, inbox *inbox, id string) error {
	tokenFile := service.AdminTokenFile()
	_, err := fmt.Fprintf(out, `Mailkeep answers at %[1]s (REST, Connect, gRPC, gRPC-Web).
Data, removed at the end: %[2]s
Admin token:              %[3]s
Inbox (SMTP with AUTH):   %[4]s, mails at %[5]s
Active provider:          %[6]s

Change the stored password, as the admin API documents it:

  curl -L -X PUT '%[1]s/admin/v1/smtp/%[6]s/password' -H 'Content-Type: application/json' -H 'Accept: application/json' -H "Authorization: Bearer $(cat %[3]s)" -d '{"password": "%[7]s"}'

Send a test mail. It authenticates with the new password; this terminal shows it:

  curl -X POST '%[1]s/admin/v1/smtp/%[6]s/_test' -H "Authorization: Bearer $(cat %[3]s)" -d '{"receiverAddress": "you@example.com"}'

Change the password at the inbox. Until you change it here too, test mails fail and say why:

  curl -X PUT '%[5]s/password' -d 'another-password'

See what the inbox has received, and with which version of its password:

  curl '%[5]s/mails'

The same from the command line:

  export MAILKEEP_DATA_DIR=%[2]s
  go run ./cmd/mailkeep provider list
  echo another-password | go run ./cmd/mailkeep provider set-password %[6]s
  go run ./cmd/mailkeep provider test %[6]s --to you@example.com

`, service.URL(), service.DataDir(), tokenFile, inbox.smtp.Addr(), inbox.url(), id, nextPassword)
	return err
}
