package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/secret"
)

type copyCommand struct {
	From    string `default:"./mailkeep-data" type:"path" placeholder:"FOLDER" help:"Data folder with the embedded store; no service may be using it (${default})."`
	To      string `env:"MAILKEEP_DATABASE_URL" placeholder:"URL" help:"New, empty PostgreSQL database: postgres://USER@HOST[,HOST…]/NAME."`
	Abandon bool   `help:"Let the embedded store serve again that was copied, wholly or in part. What was done since in the other database is not brought back."`
}

// Help implements kong.HelpProvider.
func (copyCommand) Help() string {
	return "Every id, event and sequence, token and mail is kept, and everything is compared at the end. When it is " +
		"interrupted, the same command goes on where it was. From its beginning the embedded store can't be served any " +
		"more, so that nothing is sent twice or changed in the wrong place.\n\n" +
		"Afterwards start each service with --database-url and the keyset of the data folder (--keyset-file)."
}

// Run implements the command.
func (c *copyCommand) Run(ctx context.Context, s streams) error {
	if c.Abandon {
		return c.abandon(ctx, s)
	}
	if c.To == "" {
		return errors.New("--to must name the PostgreSQL database")
	}
	bar := newProgress(s.err)
	rows, err := app.Copy(ctx, c.From, secret.New(c.To), bar.show)
	bar.clear()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%d rows copied and compared. Now start with --database-url, and with the keyset in %s\n", rows, c.From)
	return nil
}

func (c *copyCommand) abandon(ctx context.Context, s streams) error {
	was, err := app.AbandonCopy(ctx, c.From)
	if err != nil {
		return err
	}
	if !was {
		return fmt.Errorf("the store in %s was not copied", c.From)
	}
	fmt.Fprintf(s.out, "the store in %s can be served again; see that no service runs on the copy\n", c.From)
	return nil
}
