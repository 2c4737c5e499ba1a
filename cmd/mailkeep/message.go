package main

import (
	"context"
	"fmt"
	"strings"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type messageCommands struct {
	Send   sendCommand          `cmd:"" help:"Send a mail through the active provider, and print its id."`
	Get    getMessageCommand    `cmd:"" help:"Show what became of a mail, with every attempt."`
	List   listMessagesCommand  `cmd:"" help:"List mails, newest first."`
	Retry  retryMessageCommand  `cmd:"" help:"Try a mail again now."`
	Cancel cancelMessageCommand `cmd:"" help:"Cancel a mail that waits for an attempt."`
	Watch  watchMessagesCommand `cmd:"" help:"Print changes of state as they happen."`
}

// mail is the mail that a command is about.
type mail struct {
	ID string `arg:"" name:"id" help:"Id of the mail, as send prints it and the list shows it."`
}

type retryMessageCommand struct {
	mail
	connection
}

// Help implements kong.HelpProvider.
func (*retryMessageCommand) Help() string {
	return `A mail that waits for its next attempt is due at once. One that failed or expired gets a new
life, if what it says is still kept.`
}

// Run implements the command.
func (r *retryMessageCommand) Run(ctx context.Context, c *client) error {
	res, err := c.messages.RetryMessage(ctx, &mailkeepv1.RetryMessageRequest{Id: r.ID})
	if err != nil {
		return err
	}
	return c.object(res, messageFields(res.GetMessage())...)
}

type cancelMessageCommand struct {
	mail
	connection
}

// Run implements the command.
func (k *cancelMessageCommand) Run(ctx context.Context, c *client) error {
	res, err := c.messages.CancelMessage(ctx, &mailkeepv1.CancelMessageRequest{Id: k.ID})
	if err != nil {
		return err
	}
	return c.object(res, messageFields(res.GetMessage())...)
}

func messageFields(m *mailkeepv1.Message) []field {
	return []field{
		{"id", m.GetId()},
		{"state", stateName(m.GetState())},
		{"reason", m.GetReason()},
		{"tag", m.GetTag()},
		{"idempotency-key", m.GetIdempotencyKey()},
		{"taken", local(m.GetCreationDate())},
		{"changed", local(m.GetChangeDate())},
		{"next-attempt", local(m.GetNextAttemptDate())},
		{"given-up", local(m.GetExpirationDate())},
		{"attempts", number(m.GetAttemptCount())},
		{"provider", m.GetProviderId()},
		{"credential-version", number(m.GetCredentialVersion())},
	}
}

// stateName is a state as flags take it.
func stateName(s mailkeepv1.MessageState) string { return enumName(s, "MESSAGE_STATE_") }

// enumName is the value of an enum without the prefix that all its values have.
func enumName(value fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(value.String(), prefix))
}

// settled reports whether nothing happens to a mail any more.
func settled(s mailkeepv1.MessageState) bool {
	switch s {
	case mailkeepv1.MessageState_MESSAGE_STATE_DELIVERED, mailkeepv1.MessageState_MESSAGE_STATE_FAILED,
		mailkeepv1.MessageState_MESSAGE_STATE_CANCELLED, mailkeepv1.MessageState_MESSAGE_STATE_EXPIRED:
		return true
	}
	return false
}

// number is empty for 0.
func number[N uint32 | uint64](n N) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
