// Command mailkeep keeps email providers and sends mail through the active one. `mailkeep serve`
// is the service, backup and restore work on its data folder; every other command is a client of its API.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Serve      serveCommand      `cmd:"" help:"Run the service."`
	Provider   providerCommands  `cmd:"" help:"Look at and change email providers."`
	Message    messageCommands   `cmd:"" help:"Send mail, and see what became of it."`
	Token      tokenCommands     `cmd:"" help:"Make, list and revoke API tokens."`
	Keys       keysCommands      `cmd:"" help:"Care for the keys that secrets are sealed with."`
	Audit      auditCommands     `cmd:"" help:"Verify and export the record of changes."`
	Instance   instanceCommands  `cmd:"" help:"Make, list, change and remove instances: tenants on one service."`
	Backup     backupCommand     `cmd:"" help:"Copy the database of a running or stopped service into a file."`
	Restore    restoreCommand    `cmd:"" help:"Put the database of a backup into a data folder."`
	Deprecated deprecatedCommand `cmd:"" help:"List who still calls deprecated methods."`
	Migrate    migrateCommand    `cmd:"" help:"Bring the schema of a PostgreSQL database up to date, and nothing else."`
	Copy       copyCommand       `cmd:"" help:"Move an embedded store into PostgreSQL."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run is main for tests: it returns the exit status.
func run(ctx context.Context, args []string, io streams) int {
	var c commands
	status := -1
	parser, err := kong.New(&c,
		kong.Name("mailkeep"),
		kong.Description("Keeps email providers, and sends mail through the active one.\n\n"+
			"Start with `mailkeep serve --demo`. Commands that call a service find one on this machine "+
			"through its data folder; --url and --token-file name another."),
		kong.Writers(io.out, io.err),
		kong.Exit(func(code int) { status = code }),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(io),
	)
	if err != nil {
		fmt.Fprintln(io.err, "mailkeep:", explain(err))
		return 1
	}
	parsed, err := parser.Parse(args)
	if status >= 0 { // --help was asked for and answered
		return status
	}
	if err != nil {
		fmt.Fprintln(io.err, "mailkeep:", explain(err))
		return 2
	}
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(io.err, "mailkeep:", explain(err))
		return 1
	}
	return 0
}
