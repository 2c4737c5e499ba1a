package outbox

import (
	"fmt"
	"slices"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Bounds of the time between two attempts.
const (
	minBackoff = 10 * time.Second
	maxBackoff = time.Hour
)

// backoff returns how long to wait after an attempt, the first of which is 1: from minBackoff, twice
// as long each time, to maxBackoff. Jitter is from 0 to 1; the result lies up to a fifth beside, so
// that mails that failed together don't come back together.
func backoff(attempt int, jitter float64) time.Duration {
	d := maxBackoff
	if shift := attempt - 1; shift < 9 {
		d = min(maxBackoff, minBackoff<<max(0, shift))
	}
	d += time.Duration(float64(d) * (jitter - 0.5) * 0.4)
	return min(maxBackoff, max(minBackoff, d))
}

// freeRetries is how many attempts a mail has had before a caller must leave time between them.
const freeRetries = 5

// retryAt returns when a mail is due that a caller wants to be sent now.
func retryAt(m Message, now time.Time) time.Time {
	if soonest := m.Changed.Add(minBackoff); m.Attempts >= freeRetries && soonest.After(now) {
		if m.State == Queued {
			return minTime(soonest, m.Due)
		}
		return soonest
	}
	return now
}

// sessionSteps are those before a mail is spoken of: a failure there is not the mail's.
var sessionSteps = []emailprovider.Step{
	emailprovider.StepDial, emailprovider.StepTLS, emailprovider.StepEHLO, emailprovider.StepStartTLS,
	emailprovider.StepToken, emailprovider.StepAuth,
}

// codeClosing is a server's reply that it closes the connection, whatever was asked (RFC 5321, section
// 3.8).
const codeClosing = 421

// blamesSession reports whether the provider could not be reached or used, whatever the mail. A webhook
// that can't answer now is such a provider too.
func blamesSession(f *emailprovider.DeliveryError) bool {
	return f != nil && (slices.Contains(sessionSteps, f.Step) || f.Code == codeClosing ||
		f.Step == emailprovider.StepPost && f.Temporary)
}

// refusesCredential reports whether the provider has said that the credential is wrong.
func refusesCredential(f *emailprovider.DeliveryError) bool {
	return f != nil && !f.Temporary &&
		(f.Step == emailprovider.StepToken && (f.Code == 400 || f.Code == 401) || f.Step == emailprovider.StepAuth && f.Code >= 400)
}

// outcome is what decide works with besides the mail and its delivery.
type outcome struct {
	via    emailprovider.Route
	now    time.Time
	jitter float64 // from 0 to 1
	keep   bool
}

// decide says what becomes of a claimed mail after a delivery.
func decide(m ClaimedMail, d emailprovider.Delivery, o outcome) Settlement {
	s := Settlement{
		Lease: m.Lease(), At: o.now, State: Queued, Reason: m.Reason, Due: o.now,
		Recipients: m.Recipients, Keep: o.keep,
	}
	if d.Untried {
		if m.Attempts == 0 {
			s.Due = minTime(o.now, m.Created) // where it was in the queue, not behind all that has come since
		}
		return s
	}
	s.Attempt = attempt(m, d, o)
	s.CredentialRefused, s.CertExpires = refusesCredential(d.Failed), d.CertificateExpires
	s.Recipients = slices.Clone(m.Recipients)
	if blamesSession(d.Failed) {
		s.Reason = explainFailure(d.Failed)
	} else {
		judge(s.Recipients, d)
		s.State, s.Reason = verdict(s.Recipients, d.Failed)
	}
	if s.State == Queued && !s.CredentialRefused { // else the breaker holds it back
		s.Due = minTime(o.now.Add(backoff(s.Attempt.Number, o.jitter)), m.Expires) // when Expire takes it
	}
	return s
}

// judge puts what the provider said into the recipients that this attempt was for.
func judge(recipients []Recipient, d emailprovider.Delivery) {
	n := 0
	for i := range recipients {
		r := &recipients[i]
		if r.State != Pending {
			continue
		}
		refused := d.Failed
		if n < len(d.Verdicts) {
			refused = d.Verdicts[n].Refused
		}
		n++
		switch {
		case refused == nil:
			r.State, r.Code, r.Text = Accepted, 0, ""
		case refused.Temporary:
			r.Code, r.Text = refused.Code, refused.Text
		default:
			r.State, r.Code, r.Text = Refused, refused.Code, refused.Text
		}
	}
}

// verdict returns the state of a mail with such recipients, and why it is not delivered.
func verdict(recipients []Recipient, failed *emailprovider.DeliveryError) (State, string) {
	reason := func(r Recipient) string {
		if failed != nil {
			return explainFailure(failed)
		}
		return fmt.Sprintf("%s: %s", r.Address, said(r.Code, r.Text))
	}
	for _, r := range recipients {
		if r.State == Pending {
			return Queued, reason(r)
		}
	}
	for _, r := range recipients {
		if r.State == Refused {
			return Failed, reason(r)
		}
	}
	return Delivered, ""
}

func explainFailure(f *emailprovider.DeliveryError) string {
	return fmt.Sprintf("%s: %s", f.Step, said(f.Code, f.Text))
}

func said(code int, text string) string {
	if code == 0 {
		return text
	}
	return fmt.Sprintf("%d %s", code, text)
}

// attempt is the record of a delivery.
func attempt(m ClaimedMail, d emailprovider.Delivery, o outcome) *Attempt {
	a := &Attempt{
		Number: m.Attempts + 1, ProviderID: o.via.ProviderID, CredentialVersion: o.via.CredentialVersion,
		Started: d.Started, Ended: o.now, Accepted: d.Failed == nil, Steps: d.Steps,
	}
	if d.Failed != nil {
		a.Step, a.Code, a.Text = d.Failed.Step, d.Failed.Code, d.Failed.Text
	}
	return a
}

// unreadable is what becomes of a mail whose content does not open: the key may come back.
func unreadable(m ClaimedMail, o outcome) Settlement {
	return Settlement{
		Lease: m.Lease(), At: o.now, State: Queued, Keep: o.keep,
		Reason: "the content can't be opened with the keyset in use",
		Due:    minTime(o.now.Add(maxBackoff), m.Expires),
	}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
