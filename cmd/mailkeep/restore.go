package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
)

type restoreCommand struct {
	From       string `required:"" type:"path" placeholder:"FILE" help:"Backup to restore, made by mailkeep backup."`
	DataDir    string `default:"./mailkeep-data" env:"MAILKEEP_DATA_DIR" type:"path" placeholder:"FOLDER" help:"Data folder to restore into; made if missing (${default})."`
	KeysetFile string `env:"MAILKEEP_KEYSET_FILE" type:"path" placeholder:"FILE" help:"Keyset that must open what is in the backup (keyset.json in the data folder, if it is there)."`
	Replace    bool   `help:"Move a database that is there aside, to a name that is printed."`
	Queued     string `default:"keep" enum:"keep,cancel" help:"What becomes of mails that were still to be sent when the backup was made: keep sends them, those sent since then a second time; cancel sends none, and those not sent since then are lost (${default})."`
}

// Help implements kong.HelpProvider.
func (*restoreCommand) Help() string {
	return `The service must be stopped. The backup is checked first, and so is the keyset if there is one:
if anything is wrong nothing is changed. A crash leaves the old database or the new one, whole.

    mailkeep restore --from /backups/mailkeep-2027-01-31.backup
    cp /elsewhere/keyset.json mailkeep-data/
    mailkeep serve

Everything is as it was when the backup was made:

  - A password that was changed since is the old one again; set the present one.
  - A token that was revoked since works again; revoke it.
  - Mails that were accepted since are not known any more.
  - Mails that were still to be sent, and were sent since, are sent again, unless their lifetime is
    over. Servers can tell by their Message-ID, people can't. --queued cancel sends none of them.
  - Sequences of changes go on from where they were then.`
}

// Run implements the command.
func (c *restoreCommand) Run(ctx context.Context, s streams) error {
	if err := harden(); err != nil { // the keyset is read
		return fmt.Errorf("keeping secrets out of core dumps: %w", err)
	}
	bar := newProgress(s.err)
	done, err := app.Restore(ctx, app.RestoreOptions{
		From: c.From, DataDir: c.DataDir, KeysetFile: c.KeysetFile,
		Replace: c.Replace, CancelOpen: c.Queued == "cancel", Progress: bar.show,
	})
	bar.clear()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "restored to %s: as of %s, %s\n",
		printable(c.DataDir), done.Made.Local().Format(time.RFC3339), contents(done.Contents))
	c.advise(s, done)
	return nil
}

// advise says what is left to do.
func (c *restoreCommand) advise(s streams, done app.Restored) {
	if done.Replaced != "" {
		s.note("the database that was there is now %s; delete it, with its -wal and -shm, once you don't need it", printable(done.Replaced))
	}
	switch {
	case done.HasKeyset:
		s.note("%s opens what is in it", printable(done.Keyset))
	case len(done.Keys) > 0:
		s.note("there is no keyset at %s: the service starts once the one with %s is there", printable(done.Keyset), keyNames(done.Keys))
	}
	switch {
	case done.Cancelled > 0:
		s.note("cancelled %s still to be sent", count(uint64(done.Cancelled), "mail"))
	case done.Open > 0:
		s.note("the service will send %s when it starts, also if it did so after the backup; --queued cancel sends none",
			count(done.Open, "mail"))
	}
	s.note("passwords that were changed and tokens that were revoked after the backup are as they were before")
}
