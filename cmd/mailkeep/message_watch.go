package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type watchMessagesCommand struct {
	ID  string `arg:"" optional:"" name:"id" help:"Id of the mail (all mails)."`
	Tag string `placeholder:"TAG" help:"Only mails with this tag."`
	connection
}

// Help implements kong.HelpProvider.
func (*watchMessagesCommand) Help() string {
	return `Of one mail: begins with how it is, and ends when nothing happens to it any more. Of all mails:
changes from now on, until Ctrl-C. --timeout ends neither.

    mailkeep message watch --tag password-reset`
}

// Run implements the command.
func (w *watchMessagesCommand) Run(ctx context.Context, c *client) error {
	last, err := c.watch(ctx, w.ID, w.Tag)
	switch {
	case w.ID == "" && ctx.Err() != nil:
		return nil // the way to end it
	case err != nil:
		return err
	case w.ID != "" && !settled(last.GetState()):
		return errCut
	case w.ID == "":
		return errors.New("the service has ended the stream; watch again for what happens from now on")
	}
	return nil
}

// errCut is the end of a stream before that of the mail.
var errCut = errors.New("the service has ended the stream before the mail was settled; `mailkeep message get` shows what became of it")

// wait follows a mail until it is settled, and fails unless it is delivered then.
func (c *client) wait(ctx context.Context, id string) error {
	last, err := c.watch(ctx, id, "")
	switch {
	case err != nil:
		return fmt.Errorf("the mail is taken, but what became of it is not known: %s", explain(err))
	case !settled(last.GetState()):
		return errCut
	case last.GetState() != mailkeepv1.MessageState_MESSAGE_STATE_DELIVERED:
		return errors.New(strings.TrimSuffix("not delivered: "+stateName(last.GetState())+", "+last.GetReason(), ", "))
	}
	return nil
}

// watch prints changes as they come, and returns the mail as it was at the last one.
func (c *client) watch(ctx context.Context, id, tag string) (last *mailkeepv1.Message, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := c.live.messages.WatchMessages(ctx, &mailkeepv1.WatchMessagesRequest{Id: id, Tag: tag})
	if err != nil {
		return nil, err
	}
	err = follow(changes, func(change *mailkeepv1.WatchMessagesResponse) error {
		last = change.GetMessage()
		if c.json {
			return c.printLine(change)
		}
		_, err := fmt.Fprintln(c.out, changeLine(last))
		return err
	})
	return last, err
}

func changeLine(m *mailkeepv1.Message) string {
	var details []string
	for _, f := range []field{
		{"tag", m.GetTag()},
		{"attempts", number(m.GetAttemptCount())},
		{"provider", m.GetProviderId()},
		{"credential-version", number(m.GetCredentialVersion())},
		{"next-attempt", local(m.GetNextAttemptDate())},
		{"reason", m.GetReason()},
	} {
		if f.value != "" {
			details = append(details, f.key+" "+f.value)
		}
	}
	line := fmt.Sprintf("%s  %s  %-9s  %s", local(m.GetChangeDate()), m.GetId(), stateName(m.GetState()), strings.Join(details, ", "))
	return printable(strings.TrimRight(line, " "))
}
