package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type getMessageCommand struct {
	mail
	Content bool `help:"Show also what the mail says, which needs the permission message.content; it is erased once the mail is settled."`
	connection
}

// Help implements kong.HelpProvider.
func (*getMessageCommand) Help() string {
	return `Each attempt names the version of the credential that it used: "mailkeep provider status" has the
version that is in use now. The step of a failed attempt is where it ended, with what the server said.

    mailkeep message get 01k2f0c8m3a7h9v5r1d6t4b0qe`
}

// Run implements the command.
func (g *getMessageCommand) Run(ctx context.Context, c *client) error {
	res, err := c.messages.GetMessage(ctx, &mailkeepv1.GetMessageRequest{Id: g.ID})
	if err != nil {
		return err
	}
	if err := c.object(res, messageFields(res.GetMessage())...); err != nil {
		return err
	}
	if !c.json {
		if err := c.verdicts(res.GetMessage()); err != nil {
			return err
		}
	}
	if !g.Content {
		return nil
	}
	content, err := c.messages.GetMessageContent(ctx, &mailkeepv1.GetMessageContentRequest{Id: g.ID})
	if err != nil {
		return err
	}
	return c.content(content)
}

// verdicts prints what became of each recipient, and of each attempt.
func (c *client) verdicts(m *mailkeepv1.Message) error {
	var recipients, attempts [][]string
	for _, r := range m.GetRecipients() {
		recipients = append(recipients, []string{
			r.GetAddress(), enumName(r.GetKind(), "RECIPIENT_KIND_"), enumName(r.GetState(), "RECIPIENT_STATE_"),
			number(r.GetCode()), r.GetText(),
		})
	}
	for _, a := range m.GetAttempts() {
		result := "failed"
		if a.GetAccepted() {
			result = "accepted"
		}
		attempts = append(attempts, []string{
			fmt.Sprint(a.GetNumber()), local(a.GetStartDate()), a.GetProviderId(), number(a.GetCredentialVersion()),
			result, a.GetStep(), number(a.GetCode()), a.GetText(), stepTimes(a.GetSteps()),
		})
	}
	fmt.Fprintln(c.out)
	if err := c.columns([]string{"RECIPIENT", "AS", "STATE", "CODE", "TEXT"}, recipients); err != nil || attempts == nil {
		return err
	}
	fmt.Fprintln(c.out)
	return c.columns([]string{"ATTEMPT", "BEGAN", "PROVIDER", "CREDENTIAL", "RESULT", "FAILED AT", "CODE", "TEXT", "TIMES"}, attempts)
}

func stepTimes(steps []*mailkeepv1.StepTime) string {
	var times []string
	for _, s := range steps {
		times = append(times, s.GetStep()+" "+milliseconds(s.GetDuration().AsDuration()))
	}
	return strings.Join(times, ", ")
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

// content prints what a mail says.
func (c *client) content(res *mailkeepv1.GetMessageContentResponse) error {
	m := res.GetContent()
	if !c.json {
		fmt.Fprintln(c.out)
	}
	fields := []field{{"message-id", m.GetMessageId()}, {"reply-to", m.GetReplyTo()}, {"subject", m.GetSubject()}}
	for _, h := range m.GetHeaders() {
		fields = append(fields, field{"header", h.GetName() + ": " + h.GetValue()})
	}
	for _, a := range m.GetAttachments() {
		kind := a.GetContentType()
		if kind == "" {
			kind = "application/octet-stream"
		}
		fields = append(fields, field{"attachment", fmt.Sprintf("%s (%s, %d bytes)", a.GetName(), kind, len(a.GetData()))})
	}
	if err := c.object(res, fields...); err != nil || c.json {
		return err
	}
	c.indented("text", m.GetText())
	c.indented("html", m.GetHtml())
	return nil
}

// indented prints text of many lines.
func (c *client) indented(name, text string) {
	if text == "" {
		return
	}
	fmt.Fprintf(c.out, "%s:\n", name)
	for line := range strings.Lines(text) {
		fmt.Fprintf(c.out, "    %s\n", printable(strings.TrimRight(line, "\r\n")))
	}
}
