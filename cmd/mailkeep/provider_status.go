package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

type statusCommand struct {
	target
	connection
}

// Help implements kong.HelpProvider.
func (*statusCommand) Help() string {
	return `Each change of the password is a new version of the credential. That the version in use has a
first-used date is the proof that the mail server accepts it and that mails are sent with it. While
the breaker is open the server refuses the credential, and mails wait in the queue:

    mailkeep provider status 123456789012345678`
}

// Run implements the command.
func (s *statusCommand) Run(ctx context.Context, c *client) error {
	res, err := c.credentials.GetProviderStatus(ctx, &mailkeepv1.GetProviderStatusRequest{Id: s.ID})
	if err != nil {
		return err
	}
	if err := c.object(res, statusFields(res.GetStatus(), time.Now())...); err != nil || c.json {
		return err
	}
	var rows [][]string
	for _, use := range append([]*mailkeepv1.CredentialUse{res.GetStatus().GetCurrent()}, res.GetStatus().GetFormer()...) {
		rows = append(rows, []string{
			fmt.Sprint(use.GetVersion()), fmt.Sprint(use.GetMails()), fmt.Sprint(use.GetFailures()),
			local(use.GetFirstUsed()), local(use.GetLastSuccess()), lastFailure(use),
		})
	}
	fmt.Fprintln(c.out)
	return c.columns([]string{"CREDENTIAL", "MAILS", "FAILURES", "FIRST USED", "LAST SUCCESS", "LAST FAILURE"}, rows)
}

func statusFields(s *mailkeepv1.ProviderStatus, now time.Time) []field {
	state := "inactive"
	if s.GetActive() {
		state = "active"
	}
	firstUsed := local(s.GetCurrent().GetFirstUsed())
	if firstUsed == "" {
		firstUsed = "not yet"
	}
	return []field{
		{"id", s.GetId()},
		{"state", state},
		{"credential-version", fmt.Sprint(s.GetCredentialVersion())},
		{"set", local(s.GetCredentialSetDate())},
		{"set-by", s.GetCredentialSetBy()},
		{"first-used", firstUsed},
		{"last-success", local(s.GetCurrent().GetLastSuccess())},
		{"last-failure", lastFailure(s.GetCurrent())},
		{"breaker", breakerOf(s)},
		{"certificate", validity(s.GetCertificateExpirationDate(), now)},
		{"rollback", rollbackOf(s)},
	}
}

func lastFailure(u *mailkeepv1.CredentialUse) string {
	if u.GetLastFailure() == nil {
		return ""
	}
	said := strings.TrimSpace(number(u.GetLastFailureCode()) + " " + u.GetLastFailureText())
	return strings.TrimSuffix(fmt.Sprintf("%s at %s: %s", local(u.GetLastFailure()), u.GetLastFailureStep(), said), ": ")
}

func breakerOf(s *mailkeepv1.ProviderStatus) string {
	switch {
	case s.GetBreaker() != mailkeepv1.BreakerState_BREAKER_STATE_OPEN:
		return "closed"
	case s.GetNextProbeDate() == nil:
		return "open"
	}
	return "open, next probe " + local(s.GetNextProbeDate())
}

func rollbackOf(s *mailkeepv1.ProviderStatus) string {
	if s.GetRollbackUntilDate() == nil {
		return ""
	}
	return fmt.Sprintf("to version %d until %s", s.GetRollbackVersion(), local(s.GetRollbackUntilDate()))
}

// validity says until when a certificate is valid and how many whole days that is.
func validity(until *timestamppb.Timestamp, now time.Time) string {
	if until == nil {
		return ""
	}
	left := until.AsTime().Sub(now)
	if left < 0 {
		return "expired " + local(until)
	}
	days := fmt.Sprintf("%d days", int(left.Hours()/24))
	if days == "1 days" {
		days = "1 day"
	}
	return fmt.Sprintf("valid until %s, %s left", local(until), days)
}
