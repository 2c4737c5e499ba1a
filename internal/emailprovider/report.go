package emailprovider

import "time"

// Report is what each step of a verification found. It is safe to show.
type Report struct {
	Steps []StepReport // up to the one that failed

	// Failed is the step that failed as a delivery would say it; nil when all passed.
	Failed *DeliveryError
}

// Passed reports whether every step passed.
func (r Report) Passed() bool { return r.Failed == nil }

// StepReport is one step of a verification.
type StepReport struct {
	Name   string // dns, tcp, tls, greeting, ehlo, starttls, token, auth, from, recipient or rset
	Passed bool
	Took   time.Duration
	Code   int    // the server's reply code; 0 if the step has none
	Text   string // what the server said or what went wrong, as DeliveryError.Text

	Capabilities []string    // of ehlo: what the server offers
	Mechanisms   []string    // of ehlo: AUTH mechanisms offered
	Mechanism    string      // of auth: the one that was used
	TLS          *TLSDetails // of tls and starttls
}

// TLSDetails is a TLS connection to a mail server.
type TLSDetails struct {
	Version     string // such as "TLS 1.3"
	CipherSuite string
	Chain       []Certificate // as the server has shown them, its own first
}

// Certificate is one certificate.
type Certificate struct {
	Subject string
	Issuer  string
	Expires time.Time
}
