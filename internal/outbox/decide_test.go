package outbox

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

var (
	noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	via  = emailprovider.Route{ProviderID: "p", CredentialVersion: 3}
)

func failure(step emailprovider.Step, code int, temporary bool) *emailprovider.DeliveryError {
	return &emailprovider.DeliveryError{Step: step, Code: code, Text: "said", Temporary: temporary}
}

func verdicts(all ...*emailprovider.DeliveryError) (v []emailprovider.Verdict) {
	for _, refused := range all {
		v = append(v, emailprovider.Verdict{Refused: refused})
	}
	return v
}

// TestDecide is what becomes of a mail to two recipients, of whom a third has it already.
func TestDecide(t *testing.T) {
	final, later := failure(emailprovider.StepRecipient, 550, false), failure(emailprovider.StepRecipient, 450, true)
	for name, c := range map[string]struct {
		delivery   emailprovider.Delivery
		state      State
		reason     string
		recipients []RecipientState
		refused    bool // the credential
	}{
		"untried": {emailprovider.Delivery{Untried: true}, Queued, "before", []RecipientState{Pending, Accepted, Pending}, false},
		"accepted": {
			emailprovider.Delivery{Verdicts: verdicts(nil, nil)}, Delivered, "", []RecipientState{Accepted, Accepted, Accepted}, false,
		},
		"one refused": {
			emailprovider.Delivery{Verdicts: verdicts(nil, final)}, Failed, "c@x: 550 said", []RecipientState{Accepted, Accepted, Refused}, false,
		},
		"one put off": {
			emailprovider.Delivery{Verdicts: verdicts(nil, later)}, Queued, "c@x: 450 said", []RecipientState{Accepted, Accepted, Pending}, false,
		},
		"one refused, one put off": {
			emailprovider.Delivery{Failed: final, Verdicts: verdicts(final, later)}, Queued, "recipient: 550 said",
			[]RecipientState{Refused, Accepted, Pending}, false,
		},
		"all refused": {
			emailprovider.Delivery{Failed: final, Verdicts: verdicts(final, final)}, Failed, "recipient: 550 said",
			[]RecipientState{Refused, Accepted, Refused}, false,
		},
		"sender refused": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepFrom, 553, false)}, Failed, "from: 553 said",
			[]RecipientState{Refused, Accepted, Refused}, false,
		},
		"content refused": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepData, 554, false)}, Failed, "data: 554 said",
			[]RecipientState{Refused, Accepted, Refused}, false,
		},
		"connection lost at the dot": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepData, 0, true)}, Queued, "data: said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
		"no connection": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepDial, 0, true)}, Queued, "dial: said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
		"bad certificate": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepTLS, 0, false)}, Queued, "tls: said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
		"greeting refused": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepEHLO, 554, false)}, Queued, "ehlo: 554 said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
		"credential refused": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepAuth, 535, false)}, Queued, "auth: 535 said",
			[]RecipientState{Pending, Accepted, Pending}, true,
		},
		"login put off": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepAuth, 454, true)}, Queued, "auth: 454 said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
		"no mechanism that fits": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepAuth, 0, false)}, Queued, "auth: said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
		"client secret refused": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepToken, 401, false)}, Queued, "token: 401 said",
			[]RecipientState{Pending, Accepted, Pending}, true,
		},
		"token endpoint gone": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepToken, 404, false)}, Queued, "token: 404 said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
		"server closes at MAIL": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepFrom, 421, true)}, Queued, "from: 421 said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
		"webhook refuses the mail": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepPost, 422, false)}, Failed, "post: 422 said",
			[]RecipientState{Refused, Accepted, Refused}, false,
		},
		"webhook is down": {
			emailprovider.Delivery{Failed: failure(emailprovider.StepPost, 503, true)}, Queued, "post: 503 said",
			[]RecipientState{Pending, Accepted, Pending}, false,
		},
	} {
		before := []Recipient{
			{Address: "a@x", Kind: To, State: Pending}, {Address: "b@x", Kind: Cc, State: Accepted}, {Address: "c@x", Kind: Bcc, State: Pending},
		}
		m := ClaimedMail{Message: Message{Version: 7,
			Instance: "i", ID: "m", State: Sending, Reason: "before", Recipients: slices.Clone(before), Attempts: 2, Expires: noon.Add(time.Hour),
		}}
		s := decide(m, c.delivery, outcome{via: via, now: noon, jitter: 0.5, keep: true})
		var states []RecipientState
		for _, r := range s.Recipients {
			states = append(states, r.State)
		}
		if s.State != c.state || s.Reason != c.reason || !slices.Equal(states, c.recipients) || s.CredentialRefused != c.refused {
			t.Errorf("%s: %s %q %v, credential refused: %v", name, s.State, s.Reason, states, s.CredentialRefused)
		}
		if s.Lease != (Lease{"i", "m", 7}) || !s.Keep || !s.At.Equal(noon) {
			t.Errorf("%s: %+v", name, s)
		}
		if diff := cmp.Diff(before, m.Recipients); diff != "" {
			t.Errorf("%s: the claimed mail was changed:\n%s", name, diff)
		}
		wantDue := noon.Add(40 * time.Second) // after the third attempt
		if c.delivery.Untried || c.refused {  // the breaker holds those
			wantDue = noon
		}
		if s.State == Queued && !s.Due.Equal(wantDue) {
			t.Errorf("%s: due %s after now, want %s", name, s.Due.Sub(noon), wantDue.Sub(noon))
		}
		switch {
		case c.delivery.Untried:
			if s.Attempt != nil {
				t.Errorf("%s: an attempt", name)
			}
		case s.Attempt == nil || s.Attempt.Number != 3 || s.Attempt.ProviderID != "p" || s.Attempt.CredentialVersion != 3,
			s.Attempt.Accepted != (c.delivery.Failed == nil):
			t.Errorf("%s: attempt %+v", name, s.Attempt)
		}
	}
}

// TestDecideKeepsThePlace: a mail that was claimed and not tried is not put behind later ones.
func TestDecideKeepsThePlace(t *testing.T) {
	for created, want := range map[time.Time]time.Time{
		noon.Add(-time.Hour): noon.Add(-time.Hour), noon.Add(time.Hour): noon, // by another machine's clock
	} {
		m := ClaimedMail{Message: Message{Created: created, Recipients: []Recipient{{State: Pending}}}}
		if s := decide(m, emailprovider.Delivery{Untried: true}, outcome{now: noon}); !s.Due.Equal(want) {
			t.Errorf("created at %s: due at %s, want %s", created, s.Due, want)
		}
	}
}

// TestDecideNearTheEnd: a mail is not due after its end of life, which Expire waits for.
func TestDecideNearTheEnd(t *testing.T) {
	m := ClaimedMail{Message: Message{Recipients: []Recipient{{State: Pending}}, Expires: noon.Add(time.Second)}}
	s := decide(m, emailprovider.Delivery{Failed: failure(emailprovider.StepDial, 0, true)}, outcome{now: noon})
	if !s.Due.Equal(m.Expires) {
		t.Errorf("due %s", s.Due)
	}
}

func TestBackoff(t *testing.T) {
	for attempt, want := range map[int]time.Duration{
		0: 10 * time.Second, 1: 10 * time.Second, 2: 20 * time.Second, 5: 160 * time.Second, 9: 2560 * time.Second,
		10: time.Hour, 11: time.Hour, 1000: time.Hour,
	} {
		if got := backoff(attempt, 0.5); got != want {
			t.Errorf("attempt %d: %s, want %s", attempt, got, want)
		}
	}
	for attempt := 1; attempt < 200; attempt++ {
		for _, jitter := range []float64{0, 0.25, 0.75, 1} {
			if got := backoff(attempt, jitter); got < minBackoff || got > maxBackoff {
				t.Errorf("attempt %d, jitter %v: %s", attempt, jitter, got)
			}
		}
		if lowest, highest := backoff(3, 0), backoff(3, 1); lowest != 32*time.Second || highest != 48*time.Second {
			t.Fatalf("jitter from %s to %s", lowest, highest)
		}
	}
}

func TestLoggedIn(t *testing.T) {
	before := []emailprovider.Step{
		emailprovider.StepDial, emailprovider.StepTLS, emailprovider.StepEHLO, emailprovider.StepStartTLS, emailprovider.StepToken,
		emailprovider.StepAuth, emailprovider.StepPost,
	}
	for _, step := range emailprovider.Steps() {
		if got, want := (Attempt{Step: step}).LoggedIn(), !slices.Contains(before, step); got != want {
			t.Errorf("%s without a reply: %v", step, got)
		}
	}
	if !(Attempt{Accepted: true}).LoggedIn() || !(Attempt{Step: emailprovider.StepPost, Code: 422}).LoggedIn() {
		t.Error("an accepted mail, or one that a webhook answered, was not logged in")
	}
}
