package main

import (
	"context"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/secret"
)

type migrateCommand struct {
	DatabaseURL string `name:"database-url" env:"MAILKEEP_DATABASE_URL" required:"" placeholder:"URL" help:"PostgreSQL database: postgres://USER@HOST[,HOST…]/NAME."`
}

// Help implements kong.HelpProvider.
func (migrateCommand) Help() string {
	return "serve does the same when it starts, one replica at a time. Replicas of the version before go on " +
		"meanwhile, but can't be started again afterwards."
}

// Run implements the command.
func (c *migrateCommand) Run(ctx context.Context, s streams) error {
	version, err := app.Migrate(ctx, secret.New(c.DatabaseURL))
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "the schema is at version %d\n", version)
	return nil
}
