package demo

import (
	"cmp"
	"fmt"
)

func (d *demo) printWhere() error {
	_, err := fmt.Fprintf(d.out, `Mailkeep answers at %s (REST, Connect, gRPC, gRPC-Web).
Data, removed at the end: %s
Admin token:              %s
Inbox (SMTP with AUTH):   %s, mails at %s
Active provider:          %s

A rotation, done just now:
`, d.service.URL(), d.service.DataDir(), d.service.AdminTokenFile(), d.inbox.smtp.Addr(), d.inbox.url(), d.provider)
	return err
}

func (d *demo) printCommands() error {
	_, err := fmt.Fprintf(d.out, `
Change the stored password, as the admin API documents it; then send a test mail, which this terminal shows:
  curl -L -X PUT '%[1]s/admin/v1/smtp/%[4]s/password' -H 'Content-Type: application/json' -H 'Accept: application/json' -H "Authorization: Bearer $(cat %[3]s)" -d '{"password": "%[6]s"}'
  curl -X POST '%[1]s/admin/v1/smtp/%[4]s/_test' -H "Authorization: Bearer $(cat %[3]s)" -d '{"receiverAddress": "you@example.com"}'
Send a mail through the outbox; see what became of mail 4 above, and which credential it came with:
  curl -X POST '%[1]s/v1/messages' -H "Authorization: Bearer $(cat %[3]s)" -d '{"to": ["you@example.com"], "subject": "Hello", "text": "It works."}'
  curl '%[1]s/v1/messages/%[7]s' -H "Authorization: Bearer $(cat %[3]s)"
Rotate to a wrong password, which is refused with every step; see the version in use and its proof:
  curl -X POST '%[1]s/v1/providers/%[4]s/_rotate' -H "Authorization: Bearer $(cat %[3]s)" -d '{"password": "wrong-password"}'
  curl '%[1]s/v1/providers/%[4]s/status' -H "Authorization: Bearer $(cat %[3]s)"
Change the password at the inbox: until you rotate to it, test mails fail and others wait; see what it has received:
  curl -X PUT '%[5]s/password' -d 'another-password'
  curl '%[5]s/mails'

The same from the command line:
  export MAILKEEP_DATA_DIR=%[2]s
  echo wrong-password | go run ./cmd/mailkeep provider rotate %[4]s
  echo another-password | go run ./cmd/mailkeep provider rotate %[4]s
  go run ./cmd/mailkeep message send --to you@example.com --subject Hello --text "It works." --wait
  go run ./cmd/mailkeep provider status %[4]s
  go run ./cmd/mailkeep provider events %[4]s
  go run ./cmd/mailkeep provider test %[4]s --to you@example.com

`, d.service.URL(), d.service.DataDir(), d.service.AdminTokenFile(), d.provider, d.inbox.url(), nextPassword, cmp.Or(d.mail, "ID"))
	return err
}
