package main

import (
	"context"
	"fmt"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type keysCommands struct {
	Rotate rotateKeysCommand `cmd:"" help:"Make a new key and seal every stored secret with it again."`
}

type rotateKeysCommand struct{ connection }

// Help implements kong.HelpProvider.
func (*rotateKeysCommand) Help() string {
	return `Older keys stay in the keyset, so that backups can still be opened. The keyset file
changes: back it up again. After a failure the command can simply be run again.`
}

// Run implements the command.
func (*rotateKeysCommand) Run(ctx context.Context, c *client) error {
	res, err := c.keys.RotateKeys(ctx, &mailkeepv1.RotateKeysRequest{})
	if err != nil {
		return err
	}
	return c.object(res,
		field{"primary-key", fmt.Sprint(res.GetPrimaryKeyId())},
		field{"sealed-again", fmt.Sprint(res.GetResealed())},
	)
}
