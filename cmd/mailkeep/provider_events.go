package main

import (
	"context"
	"fmt"
	"strings"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type eventsCommand struct {
	target
	After uint64 `placeholder:"SEQUENCE" help:"Only changes after this one."`
	connection
}

// Help implements kong.HelpProvider.
func (*eventsCommand) Help() string {
	return `A provider that was removed still has its events. CREDENTIAL is the version after the change. --json
shows also the procedure, the request id and the client:

    mailkeep provider events 123456789012345678`
}

// Run implements the command.
func (e *eventsCommand) Run(ctx context.Context, c *client) error {
	req := &mailkeepv1.ListProviderEventsRequest{Id: e.ID, AfterSequence: e.After, PageSize: maxPage}
	all := &mailkeepv1.ListProviderEventsResponse{}
	for {
		page, err := c.credentials.ListProviderEvents(ctx, req)
		if err != nil {
			return err
		}
		all.Events = append(all.Events, page.GetEvents()...)
		if page.GetNextAfterSequence() <= req.GetAfterSequence() { // 0 after the last page
			break
		}
		req.AfterSequence = page.GetNextAfterSequence()
	}
	var rows [][]string
	for _, event := range all.GetEvents() {
		rows = append(rows, eventRow(event))
	}
	return c.table(all, []string{"SEQUENCE", "WHEN", "WHAT", "WHO", "PROTOCOL", "DEPRECATED", "CREDENTIAL", "FIELDS"}, rows)
}

func eventRow(e *mailkeepv1.ProviderEvent) []string {
	deprecated := ""
	if e.GetDeprecated() {
		deprecated = "yes"
	}
	fields := strings.Join(e.GetFields(), ",")
	if e.GetKeptCredential() {
		fields += " (with the stored secret)"
	}
	return []string{
		fmt.Sprint(e.GetSequence()), local(e.GetDate()), e.GetType(), e.GetCaller(), e.GetProtocol(), deprecated,
		number(e.GetCredentialVersion()), fields,
	}
}
