package emailprovider

import (
	"context"
	"time"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// Mail is one mail, ready to be handed to a provider but for the sender, which is the provider's.
type Mail struct {
	MessageID string    // without angle brackets; the same on every attempt
	Date      time.Time // of the header; the same on every attempt
	To        []string  // addresses of the header
	Cc        []string  // addresses of the header

	// Recipients are the addresses that get it in this attempt, blind copies included: some of the
	// mail's recipients may have got it before.
	Recipients []string

	ReplyTo     string // the provider's if empty
	Subject     string
	Text        string // empty for none
	HTML        string // empty for none
	Headers     []Header
	Attachments []Attachment

	Args map[string]string // what a webhook is told besides
}

// Header is a header that a mail brings.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"` // unfolded
}

// Attachment is a file that goes with a mail.
type Attachment struct {
	Name        string `json:"name"`
	ContentType string `json:"contentType"` // a media type; application/octet-stream if empty
	Data        []byte `json:"data"`
}

// Route is a provider's settings with its secret, opened: what is needed to send. Exactly one of SMTP
// and HTTP is set.
type Route struct {
	Instance          string
	ProviderID        string // empty for values that are not stored
	Description       string
	Sequence          uint64 // of the provider: another one is another route
	CredentialVersion uint64 // 0 for values that are not stored
	SMTP              *SMTP
	HTTP              *HTTP
	CA                string // as Provider.CA
	Secret            secret.Text
}

// Mailer speaks to mail servers for the tests of settings.
type Mailer interface {
	// Deliver sends one mail and returns nil once the server has accepted it for every recipient,
	// whatever happens after that. A failure is a *DeliveryError.
	Deliver(ctx context.Context, via Route, mail Mail) error

	// Verify connects, secures the connection and logs in, as a delivery does, and reports every
	// step; with a recipient it also tries MAIL and RCPT, and takes them back with RSET. Nothing
	// is sent. Progress, unless nil, gets each step when it has ended.
	Verify(ctx context.Context, via Route, recipient string, progress func(StepReport)) Report
}

// Step is a stage of a delivery.
type Step string

// The steps in their order.
const (
	StepDial      Step = "dial"      // name lookup and TCP connection
	StepTLS       Step = "tls"       // TLS before the greeting
	StepEHLO      Step = "ehlo"      // greeting and EHLO
	StepStartTLS  Step = "starttls"  // STARTTLS and its handshake
	StepToken     Step = "token"     // the OAuth 2.0 token endpoint
	StepAuth      Step = "auth"      // AUTH; a webhook that refuses the signature
	StepFrom      Step = "from"      // MAIL FROM
	StepRecipient Step = "recipient" // RCPT TO
	StepData      Step = "data"      // DATA up to the reply to the final dot
	StepPost      Step = "post"      // the POST to a webhook
)

// Steps lists every step, so that tests can walk them.
func Steps() []Step {
	return []Step{
		StepDial, StepTLS, StepEHLO, StepStartTLS, StepToken, StepAuth, StepFrom, StepRecipient, StepData, StepPost,
	}
}

// DeliveryError is a mail that was not accepted. It is safe to show: Text is what the server (or
// the network) said, cut to 256 bytes, escaped, without credentials and without what it repeats of the
// mail.
type DeliveryError struct {
	Step      Step
	Code      int // the server's reply code (RFC 5321, section 4.2) or HTTP status; 0 when it did not reply
	Text      string
	Temporary bool // the same attempt may pass later
}

// Error implements error.
func (e *DeliveryError) Error() string { return "delivery failed at " + string(e.Step) + ": " + e.Text }

// Delivery is what became of one mail in one attempt.
type Delivery struct {
	// Untried says that the mail was not reached: the session ended with a mail before it. All
	// else is zero then.
	Untried bool
	Started time.Time

	// Failed is why nobody got the mail; nil when the provider has accepted it for at least one
	// recipient. A refusal of every recipient is the first one's.
	Failed *DeliveryError
	// Verdicts has one entry for each of Mail.Recipients, in their order, when Failed is nil or is
	// a refusal of recipients; else it is empty.
	Verdicts []Verdict

	Steps              []StepTime
	CertificateExpires time.Time // of the server, for the first mail of a session over TLS; else zero
}

// Verdict is what a provider said of one recipient; nil Refused means that it has the mail.
type Verdict struct{ Refused *DeliveryError }

// StepTime is how long a step took.
type StepTime struct {
	Step Step
	Took time.Duration
}
