// Package outbox is the domain of mails on their way: taken durably, claimed by a worker, handed to
// the active provider of their instance, and settled with a record of every attempt.
//
// A mail is in exactly one State at every instant, and it leaves the store's queue only by being
// settled. A worker that sends a mail holds a lease on it with a fencing token: when the lease has
// passed, another worker may take the mail, and what the former says of it is refused. The claim
// reads the active provider and its sealed secret in its own transaction, so that a mail claimed
// after a change never goes out with what was before.
package outbox

import (
	"slices"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// State is where a mail is on its way.
type State string

// The states. The first two are open, the others final: a mail in a final state is settled.
const (
	Queued    State = "queued"    // waits for its next attempt
	Sending   State = "sending"   // is claimed by a worker
	Delivered State = "delivered" // the provider has it for every recipient
	Failed    State = "failed"    // the provider has refused at least one recipient for good
	Cancelled State = "cancelled" // by a caller
	Expired   State = "expired"   // not sent within its lifetime
)

// States lists every state.
func States() []State { return []State{Queued, Sending, Delivered, Failed, Cancelled, Expired} }

// Open reports whether a mail in this state can still be sent.
func (s State) Open() bool { return s == Queued || s == Sending }

// Message is a mail as it is kept: everything but what it says.
type Message struct {
	Instance       string
	ID             string // 26 characters that sort in the order in which mails were taken; see NewID
	State          State
	Reason         string // why it failed, expired or still waits; safe to show
	Recipients     []Recipient
	Tag            string
	IdempotencyKey string
	Fingerprint    []byte // of what was sent with IdempotencyKey, sealed; empty without one
	Created        time.Time
	Changed        time.Time // when State last changed
	Due            time.Time // of a queued mail: when the next attempt may begin; of one being sent: end of the lease
	Expires        time.Time
	Attempts       int    // so far
	Version        uint64 // of two of them the one with the higher is the later

	// Of the latest attempt.
	ProviderID        string
	CredentialVersion uint64
}

// Recipient is one recipient of a mail.
type Recipient struct {
	Address string         `json:"address"`
	Kind    RecipientKind  `json:"kind"`
	State   RecipientState `json:"state"`
	Code    int            `json:"code,omitempty"` // the provider's last code for it
	Text    string         `json:"text,omitempty"` // what it said; safe to show
}

// RecipientKind is the header that names a recipient.
type RecipientKind string

// The kinds.
const (
	To  RecipientKind = "to"
	Cc  RecipientKind = "cc"
	Bcc RecipientKind = "bcc"
)

// RecipientState is what became of one recipient.
type RecipientState string

// The states of a recipient.
const (
	Pending  RecipientState = "pending"
	Accepted RecipientState = "accepted" // the provider has the mail for it
	Refused  RecipientState = "refused"  // the provider has refused it for good
)

// Content is what a mail says. It is stored sealed only.
type Content struct {
	MessageID   string                     `json:"messageId"` // without angle brackets
	Lifetime    time.Duration              `json:"lifetime"`  // of one life; RetryMessage can give it more
	ReplyTo     string                     `json:"replyTo,omitempty"`
	Subject     string                     `json:"subject,omitempty"`
	Text        string                     `json:"text,omitempty"`
	HTML        string                     `json:"html,omitempty"`
	Headers     []emailprovider.Header     `json:"headers,omitempty"`
	Attachments []emailprovider.Attachment `json:"attachments,omitempty"`
}

// Attempt is one try to hand a mail to a provider.
type Attempt struct {
	Number            int // 1 for the first
	ProviderID        string
	CredentialVersion uint64
	Started           time.Time
	Ended             time.Time
	Accepted          bool               // by the provider, for at least one recipient
	Step              emailprovider.Step // that failed; empty if none did
	Code              int                // of the last step
	Text              string             // what the provider or the network said; safe to show
	Steps             []emailprovider.StepTime
}

// LoggedIn reports whether the provider has accepted the credential in this attempt.
func (a Attempt) LoggedIn() bool {
	switch a.Step {
	case "", emailprovider.StepFrom, emailprovider.StepRecipient, emailprovider.StepData:
		return true
	case emailprovider.StepPost:
		return a.Code != 0
	}
	return false
}

// Authenticated reports whether the provider has accepted the credential in this attempt itself, and not
// on a session from before: only that says something of the credential as it is now.
func (a Attempt) Authenticated() bool {
	return a.LoggedIn() && slices.ContainsFunc(a.Steps, func(s emailprovider.StepTime) bool {
		return s.Step == emailprovider.StepAuth || s.Step == emailprovider.StepPost
	})
}

// Use is what came of using one version of a provider's credential.
type Use struct {
	Version     uint64
	FirstUsed   time.Time // zero if the provider did not accept it yet
	LastSuccess time.Time
	LastFailure time.Time
	FailureStep emailprovider.Step // of the last failure
	FailureCode int
	FailureText string    // empty for failures that are about a mail
	Mails       uint64    // accepted
	Failures    uint64    // attempts
	Probe       time.Time // the breaker is open, and one mail may try at this time; zero when it is closed
	CertExpires time.Time // end of validity of the server's certificate; zero if none was seen
}
