package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type auditCommands struct {
	Verify auditVerifyCommand `cmd:"" help:"Verify that the events of the instance are what was recorded."`
	Export auditExportCommand `cmd:"" help:"Print the events of the instance, one JSON object a line."`
}

type auditVerifyCommand struct {
	After uint64 `placeholder:"SEQUENCE" help:"Only events after this one."`
	connection
}

// Help implements kong.HelpProvider.
func (*auditVerifyCommand) Help() string {
	return `Names every event that was changed, dropped, moved, replaced or made up in the database, and then ends
with status 1. Keep the last sequence and the head that it prints somewhere else: a database that was put back to
how it was earlier has a lower sequence, and one in which other things happened since has another head.`
}

// errTampered is the end of a verification that has found something.
var errTampered = errors.New("the events are not what was recorded")

// Run implements the command.
func (v *auditVerifyCommand) Run(ctx context.Context, c *client) error {
	shown := newProgress(c.err)
	all, err := v.verify(ctx, c, shown)
	shown.clear()
	if err != nil {
		return err
	}
	if err := c.audited(all); err != nil {
		return err
	}
	if len(all.GetFindings()) > 0 {
		return errTampered
	}
	return nil
}

// verify goes through all pages.
func (v *auditVerifyCommand) verify(ctx context.Context, c *client, shown *progress) (*mailkeepv1.VerifyEventsResponse, error) {
	all := &mailkeepv1.VerifyEventsResponse{NextAfterSequence: v.After, Chained: v.After > 0, More: true}
	for all.GetMore() {
		page, err := c.audit.VerifyEvents(ctx, &mailkeepv1.VerifyEventsRequest{AfterSequence: all.GetNextAfterSequence(), Chained: all.GetChained()})
		if err != nil {
			return nil, err
		}
		if page.GetMore() && page.GetNextAfterSequence() <= all.GetNextAfterSequence() {
			return nil, fmt.Errorf("the service does not come further than event %d", page.GetNextAfterSequence())
		}
		page.Findings = append(all.GetFindings(), page.GetFindings()...)
		page.Verified += all.GetVerified()
		page.BeforeChain += all.GetBeforeChain()
		all = page
		shown.show("verifying events", int64(all.GetNextAfterSequence()), int64(all.GetLastSequence()))
	}
	return all, nil
}

// audited prints what came of it.
func (c *client) audited(all *mailkeepv1.VerifyEventsResponse) error {
	if c.json {
		return c.printJSON(all)
	}
	for _, f := range all.GetFindings() {
		if _, err := fmt.Fprintln(c.out, printable(f.GetText())); err != nil {
			return err
		}
	}
	return c.object(all,
		field{"verified", fmt.Sprint(all.GetVerified())},
		field{"before-the-chain", number(all.GetBeforeChain())},
		field{"last-sequence", fmt.Sprint(all.GetLastSequence())},
		field{"head", all.GetHead()},
	)
}

type auditExportCommand struct {
	From *moment `placeholder:"TIME" help:"Only events since then: in RFC 3339, or how long ago, such as 24h."`
	To   *moment `placeholder:"TIME" help:"Only events before then."`
	connection
}

// Help implements kong.HelpProvider.
func (*auditExportCommand) Help() string {
	return `Oldest first, those of removed providers too. Whether they are what was recorded is what "mailkeep audit
verify" tells.`
}

// Run implements the command.
func (e *auditExportCommand) Run(ctx context.Context, c *client) error {
	req := &mailkeepv1.ListEventsRequest{PageSize: maxPage}
	for {
		page, err := c.audit.ListEvents(ctx, req)
		if err != nil {
			return err
		}
		for _, event := range page.GetEvents() {
			if !e.wants(event.GetEvent().GetDate().AsTime()) {
				continue
			}
			if err := c.printLine(event); err != nil {
				return err
			}
		}
		if page.GetNextAfterSequence() <= req.GetAfterSequence() { // 0 after the last page
			return nil
		}
		req.AfterSequence = page.GetNextAfterSequence()
	}
}

func (e *auditExportCommand) wants(at time.Time) bool {
	return (e.From == nil || !at.Before(e.From.Time)) && (e.To == nil || at.Before(e.To.Time))
}
