package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

// maxPage is the most mails that one call lists.
const maxPage = 1000

type listMessagesCommand struct {
	State     []string `enum:"queued,sending,delivered,failed,cancelled,expired" placeholder:"STATE" help:"Only mails in this state: ${enum}; may be repeated."`
	Tag       string   `placeholder:"TAG" help:"Only mails with this tag."`
	Recipient string   `placeholder:"ADDRESS" help:"Only mails to this address."`
	Provider  string   `placeholder:"ID" help:"Only mails whose latest attempt was through this provider."`
	Since     *moment  `placeholder:"TIME" help:"Only mails taken since, such as 24h for the last day, or 2027-01-31T09:00:00Z."`
	Before    *moment  `placeholder:"TIME" help:"Only mails taken before, as --since."`
	Limit     int      `default:"100" placeholder:"N" help:"Show at most this many (${default})."`
	connection
}

// Help implements kong.HelpProvider.
func (*listMessagesCommand) Help() string {
	return `A mail must match every filter:

    mailkeep message list --state failed --state expired --since 24h`
}

// Validate implements kong's check of the flags.
func (l *listMessagesCommand) Validate() error {
	if l.Limit < 1 {
		return errors.New("--limit must be 1 or more")
	}
	return nil
}

// Run implements the command.
func (l *listMessagesCommand) Run(ctx context.Context, c *client) error {
	res, err := l.fetch(ctx, c)
	if err != nil {
		return err
	}
	if res.GetNextPageToken() != "" {
		c.note("There are more; --limit shows more of them, and --before the older ones.")
	}
	var rows [][]string
	for _, m := range res.GetMessages() {
		rows = append(rows, []string{
			m.GetId(), stateName(m.GetState()), local(m.GetCreationDate()), addresses(m.GetRecipients()), m.GetTag(),
			number(m.GetAttemptCount()), m.GetProviderId(), number(m.GetCredentialVersion()), m.GetReason(),
		})
	}
	return c.table(res, []string{"ID", "STATE", "TAKEN", "RECIPIENTS", "TAG", "ATTEMPTS", "PROVIDER", "CREDENTIAL", "REASON"}, rows)
}

// fetch asks for page after page, and joins them.
func (l *listMessagesCommand) fetch(ctx context.Context, c *client) (*mailkeepv1.ListMessagesResponse, error) {
	req := &mailkeepv1.ListMessagesRequest{
		Tag: l.Tag, Recipient: l.Recipient, ProviderId: l.Provider,
		CreatedFrom: l.Since.stamp(), CreatedBefore: l.Before.stamp(),
	}
	for _, name := range l.State {
		number := mailkeepv1.MessageState_value["MESSAGE_STATE_"+strings.ToUpper(name)]
		req.States = append(req.States, mailkeepv1.MessageState(number))
	}
	all := &mailkeepv1.ListMessagesResponse{}
	for {
		req.PageSize = uint32(min(l.Limit-len(all.GetMessages()), maxPage))
		page, err := c.messages.ListMessages(ctx, req)
		if err != nil {
			return nil, err
		}
		all.Messages = append(all.Messages, page.GetMessages()...)
		all.NextPageToken = page.GetNextPageToken()
		if all.NextPageToken == "" || len(all.Messages) >= l.Limit {
			return all, nil
		}
		req.PageToken = all.NextPageToken
	}
}

// addresses names the first recipient and counts the others.
func addresses(all []*mailkeepv1.Recipient) string {
	switch len(all) {
	case 0:
		return ""
	case 1:
		return all[0].GetAddress()
	}
	return fmt.Sprintf("%s and %d more", all[0].GetAddress(), len(all)-1)
}
