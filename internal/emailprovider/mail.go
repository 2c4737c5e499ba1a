package emailprovider

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// Mail is one mail to one recipient.
type Mail struct {
	MessageID string // without angle brackets; the same on every attempt
	To        string
	Subject   string
	Text      string
}

// Route is a provider's settings with its secret, opened: what a Mailer needs to send.
type Route struct {
	Instance          string
	ProviderID        string // empty for values that are not stored
	CredentialVersion uint64 // 0 for values that are not stored
	SMTP              SMTP
	Secret            secret.Text
}

// Mailer hands mails to mail servers.
type Mailer interface {
	// Deliver sends one mail and returns nil once the server has accepted it, whatever happens
	// after that. A failure is a *DeliveryError.
	Deliver(ctx context.Context, via Route, mail Mail) error
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
	StepAuth      Step = "auth"      // AUTH
	StepFrom      Step = "from"      // MAIL FROM
	StepRecipient Step = "recipient" // RCPT TO
	StepData      Step = "data"      // DATA up to the reply to the final dot
)

// Steps lists every step, so that tests can walk them.
func Steps() []Step {
	return []Step{StepDial, StepTLS, StepEHLO, StepStartTLS, StepToken, StepAuth, StepFrom, StepRecipient, StepData}
}

// DeliveryError is a mail that was not accepted. It is safe to show: Text is what the server (or
// the network) said, cut to 256 bytes, escaped, without credentials.
type DeliveryError struct {
	Step      Step
	Code      int // the server's reply code (RFC 5321, section 4.2); 0 when it did not reply
	Text      string
	Temporary bool // the same attempt may pass later
}

// Error implements error.
func (e *DeliveryError) Error() string { return "delivery failed at " + string(e.Step) + ": " + e.Text }
