package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// step does something and says what came of it.
type step func(context.Context) (said string, err error)

// rotation is a rotation from its first try to the mail that proves it. Everything in it comes from
// the service and from the inbox, which counts versions of its password on its own.
func (d *demo) rotation() []step {
	return []step{
		func(ctx context.Context) (string, error) { return d.send(ctx, "a mail through the active provider") },
		d.rotateToWrong,
		d.rotateToRight,
		func(ctx context.Context) (string, error) { return d.send(ctx, "the next mail") },
	}
}

// printStep does a step and prints what came of it, also if it went wrong.
func (d *demo) printStep(ctx context.Context, number int, do step) error {
	limited, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	said, err := do(limited)
	if ctx.Err() != nil {
		return nil // the service ends
	}
	if err != nil {
		said = "went wrong: " + err.Error()
	}
	_, err = fmt.Fprintf(d.out, "  %d. %s\n", number, said)
	return err
}

// send sends a mail with this subject and waits for its end.
func (d *demo) send(ctx context.Context, subject string) (string, error) {
	messages := d.service.Messages
	id, err := messages.Send(ctx, instance.Default, outbox.Draft{To: []string{"you@example.com"}, Subject: subject, Text: "It works."})
	if err != nil {
		return "", fmt.Errorf("%s: %w", subject, err)
	}
	d.mail = id
	var last outbox.Message
	err = messages.Watch(ctx, instance.Default, id, "", nil, func(m outbox.Message) error { last = m; return nil })
	if err != nil {
		return "", fmt.Errorf("%s is still %s (%s): %w", subject, last.State, last.Reason, err)
	}
	return fmt.Sprintf("%s: %s, credential version %d (inbox saw version %d)",
		subject, last.State, last.CredentialVersion, d.inbox.versionOf(subject)), nil
}

func (d *demo) rotateToWrong(ctx context.Context) (string, error) {
	_, _, err := d.rotate(ctx, secret.New("wrong-password"))
	refusal, ok := errors.AsType[*emailprovider.VerificationError](err)
	switch {
	case err == nil:
		return "", errors.New("a wrong password was stored")
	case !ok || refusal.Report.Failed.Step != emailprovider.StepAuth:
		return "", fmt.Errorf("rotate to a wrong password: %w", err)
	}
	p, err := d.service.Providers.Get(ctx, instance.Default, d.provider)
	if err != nil {
		return "", err
	}
	failed := refusal.Report.Failed
	return fmt.Sprintf("rotate to a wrong password: refused at step %s (%d %s); it stays at version %d",
		failed.Step, failed.Code, failed.Text, p.Credential.Version), nil
}

func (d *demo) rotateToRight(ctx context.Context) (string, error) {
	password := rand.Text()
	d.inbox.smtp.SetPassword(user, password)
	p, report, err := d.rotate(ctx, secret.New(password))
	if err != nil {
		return "", fmt.Errorf("rotate to the inbox's new password: %w", err)
	}
	var steps []string
	for _, s := range report.Steps {
		steps = append(steps, s.Name+" ok")
	}
	return fmt.Sprintf("the inbox gets a new password; rotate to it: %s; stored as version %d",
		strings.Join(steps, ", "), p.Credential.Version), nil
}

func (d *demo) rotate(ctx context.Context, password secret.Text) (emailprovider.Provider, emailprovider.Report, error) {
	in := emailprovider.Rotation{Password: password, Verify: emailprovider.VerifyEnforce}
	return d.service.Providers.RotatePassword(ctx, by, d.provider, in, nil)
}
