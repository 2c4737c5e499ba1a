package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type sendCommand struct {
	To      []string `sep:"none" group:"The mail:" placeholder:"ADDRESS" help:"Recipient; may be repeated."`
	Cc      []string `sep:"none" group:"The mail:" placeholder:"ADDRESS" help:"Recipient of a copy; may be repeated."`
	Bcc     []string `sep:"none" group:"The mail:" placeholder:"ADDRESS" help:"Recipient that the others don't see; may be repeated."`
	ReplyTo string   `group:"The mail:" placeholder:"ADDRESS" help:"Address that answers go to (the provider's)."`
	Subject string   `group:"The mail:" placeholder:"TEXT" help:"Subject."`

	Text     string   `group:"The mail:" placeholder:"TEXT" xor:"text" help:"Plain text body."`
	TextFile string   `group:"The mail:" type:"path" placeholder:"FILE" xor:"text" help:"File with the plain text body; - is standard input."`
	HTML     string   `name:"html" group:"The mail:" placeholder:"HTML" xor:"html" help:"HTML body, instead of plain text or beside it."`
	HTMLFile string   `name:"html-file" group:"The mail:" type:"path" placeholder:"FILE" xor:"html" help:"File with the HTML body; - is standard input."`
	Attach   []string `sep:"none" group:"The mail:" type:"path" placeholder:"FILE" help:"File to attach, of the type that its name says; may be repeated."`
	Header   []string `sep:"none" group:"The mail:" placeholder:"NAME:VALUE" help:"Further header, such as \"List-Id: news.example.com\"; may be repeated."`

	IdempotencyKey string         `placeholder:"KEY" help:"Makes repeating the command harmless: with the same key a mail is taken only once."`
	ExpiresIn      *time.Duration `placeholder:"TIME" help:"How long to try, such as 72h (five days)."`
	Tag            string         `placeholder:"TAG" help:"To find the mail by, such as password-reset."`
	Wait           bool           `help:"Follow the mail until nothing happens to it any more, and fail unless it is delivered."`
	connection
}

// Help implements kong.HelpProvider.
func (*sendCommand) Help() string {
	return `Standard output has the id. By then the mail is stored; it is sent right after, and tried again for
as long as --expires-in says. With --wait each change of its state follows on a line:

    mailkeep message send --to you@example.com --subject Hello --text "It works." --wait

Text and HTML from files, and a file with it:

    mailkeep message send --to you@example.com --cc us@example.com --subject "Your invoice" \
      --text-file invoice.txt --html-file invoice.html --attach invoice.pdf --tag invoice

Repeated after a failure, this sends one mail:

    date | mailkeep message send --to you@example.com --subject Today --text-file - --idempotency-key "$(date -I)"`
}

// AfterApply refuses what can't be a mail, before anything is read or sent.
func (s *sendCommand) AfterApply() error {
	switch {
	case len(s.To)+len(s.Cc)+len(s.Bcc) == 0:
		return errors.New("message send: there is no recipient; name one with --to, --cc or --bcc")
	case s.Text+s.TextFile+s.HTML+s.HTMLFile == "" && len(s.Attach) == 0:
		return errors.New("message send: the mail is empty; --text, --text-file, --html, --html-file and --attach fill it")
	case s.TextFile == "-" && s.HTMLFile == "-":
		return errors.New("message send: only one of --text-file and --html-file can be standard input")
	case s.ExpiresIn != nil && *s.ExpiresIn <= 0:
		return errors.New("message send: --expires-in must be more than nothing")
	}
	return nil
}

// Run implements the command.
func (s *sendCommand) Run(ctx context.Context, c *client) error {
	req, err := s.request(ctx, c.streams)
	if err != nil {
		return err
	}
	res, err := c.messages.SendMessage(ctx, req)
	if err != nil {
		return err
	}
	switch {
	case c.json && s.Wait:
		err = c.printLine(res)
	case c.json:
		err = c.printJSON(res)
	default:
		_, err = fmt.Fprintln(c.out, printable(res.GetId()))
	}
	if err != nil || !s.Wait {
		return err
	}
	return c.wait(ctx, res.GetId())
}

func (s *sendCommand) request(ctx context.Context, in streams) (*mailkeepv1.SendMessageRequest, error) {
	req := &mailkeepv1.SendMessageRequest{
		To: s.To, Cc: s.Cc, Bcc: s.Bcc, ReplyTo: s.ReplyTo, Subject: s.Subject,
		IdempotencyKey: s.IdempotencyKey, Tag: s.Tag,
	}
	if s.ExpiresIn != nil {
		req.ExpiresIn = durationpb.New(*s.ExpiresIn)
	}
	var err error
	if req.Text, err = in.body(ctx, "--text-file", s.TextFile, s.Text); err != nil {
		return nil, err
	}
	if req.Html, err = in.body(ctx, "--html-file", s.HTMLFile, s.HTML); err != nil {
		return nil, err
	}
	if req.Headers, err = headers(s.Header); err != nil {
		return nil, err
	}
	req.Attachments, err = attachments(s.Attach)
	return req, err
}

// headers splits lines of the form Name: value.
func headers(lines []string) ([]*mailkeepv1.Header, error) {
	var all []*mailkeepv1.Header
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("--header must be NAME:VALUE, not %q", line)
		}
		all = append(all, &mailkeepv1.Header{Name: name, Value: strings.TrimSpace(value)})
	}
	return all, nil
}
