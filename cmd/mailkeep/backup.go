package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/backup"
)

type backupCommand struct {
	DataDir   string `default:"./mailkeep-data" env:"MAILKEEP_DATA_DIR" type:"path" placeholder:"FOLDER" help:"Data folder whose database to copy (${default})."`
	To        string `required:"" type:"path" placeholder:"FILE" help:"File to make; its folder must exist."`
	Overwrite bool   `help:"Replace an earlier backup in FILE, once the new one is complete."`
}

// Help implements kong.HelpProvider.
func (*backupCommand) Help() string {
	return `The service may be running and goes on working: the backup is its database as it was at one
moment, with every change that was acknowledged before the command was started. The file is complete
and safe on disk, or it is not there.

    mailkeep backup --to /backups/mailkeep-$(date +%F).backup

The keyset is not in it, nor the admin token. Secrets and the text of mails are sealed in the backup
and open with the keyset only (keyset.json in the data folder, or what serve has as --keyset-file):
keep a copy of it somewhere else than the backups, and make a new one after every keys rotate.

This is for the database in the data folder. PostgreSQL is backed up with its own tools.`
}

// Run implements the command.
func (c *backupCommand) Run(ctx context.Context, s streams) error {
	bar := newProgress(s.err)
	made, err := app.Backup(ctx, app.BackupOptions{DataDir: c.DataDir, To: c.To, Overwrite: c.Overwrite, Progress: bar.show})
	bar.clear()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "backed up to %s: %s, %s\n", printable(c.To), size(made.Size), contents(made.Contents))
	if len(made.Keys) > 0 {
		s.note("the keyset is not in it: what is sealed opens with %s only", keyNames(made.Keys))
	}
	return nil
}

// contents says in a few words what is in a database.
func contents(c backup.Contents) string {
	return fmt.Sprintf("schema version %d, %s, %s, %s (%d still to be sent)",
		c.Schema, sequences(c.Sequences), count(c.Providers, "provider"), count(c.Mails, "mail"), c.Open)
}

func sequences(of map[string]uint64) string {
	if len(of) == 1 {
		for _, sequence := range of {
			return fmt.Sprintf("sequence %d", sequence)
		}
	}
	var all []string
	for _, instance := range slices.Sorted(maps.Keys(of)) {
		all = append(all, fmt.Sprintf("%d of %s", of[instance], printable(instance)))
	}
	return "sequences " + strings.Join(all, " and ")
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// keyNames names keys of a keyset by their ids.
func keyNames(ids []uint32) string {
	var all []string
	for _, id := range ids {
		all = append(all, fmt.Sprint(id))
	}
	if len(all) == 1 {
		return "key " + all[0]
	}
	return "keys " + strings.Join(all, ", ")
}

// size is a number of bytes as people read it.
func size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
