package main

import (
	"context"
	"fmt"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type deprecatedCommand struct{ connection }

// Help implements kong.HelpProvider.
func (*deprecatedCommand) Help() string {
	return `Each line is one method, token and client. When the list stays the same for long enough,
"mailkeep serve --refuse-deprecated" shows what would break without these methods.`
}

// Run implements the command.
func (*deprecatedCommand) Run(ctx context.Context, c *client) error {
	res, err := c.deprecations.ListDeprecatedUses(ctx, &mailkeepv1.ListDeprecatedUsesRequest{})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, u := range res.GetUses() {
		rows = append(rows, []string{
			u.GetMethod(), u.GetSuccessor(), fmt.Sprint(u.GetCalls()), u.GetCaller(), local(u.GetLastUsed()), u.GetUserAgent(),
		})
	}
	return c.table(res, []string{"METHOD", "USE INSTEAD", "CALLS", "TOKEN", "LAST USED", "CLIENT"}, rows)
}
