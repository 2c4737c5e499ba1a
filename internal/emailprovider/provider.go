// Package emailprovider is the domain behind both generations of the API: a pool of email
// providers for each instance, at most one of them active.
//
// A command loads what it needs, decides in a pure function, and hands one Change to the Store,
// which applies the new state and its event in one transaction if the provider is still the one the
// decision was made on. So nothing can change without an event, and no decision is made on old
// news: a lost race is decided again.
//
// A secret is sealed before it reaches the Store and is bound to where it may go (Binding), so a
// ciphertext that was moved to another provider, host or user does not open.
package emailprovider

import (
	"slices"
	"time"
)

// State says whether mails are sent through a provider.
type State int

// The states. At most one provider of an instance is active.
const (
	Inactive State = iota
	Active
)

// Provider is an email provider as it is stored. Exactly one of SMTP and HTTP is set.
type Provider struct {
	Instance    string
	ID          string // 18 decimal digits, never reused
	State       State
	Description string
	SMTP        *SMTP
	HTTP        *HTTP
	CA          string // certificates in PEM that alone are trusted for its server; empty for the service's
	Credential  Credential
	Previous    Previous
	Created     time.Time
	Changed     time.Time
	Sequence    uint64 // number of the instance's change that last touched the provider
}

// SMTP is how to reach and speak to an SMTP server.
type SMTP struct {
	SenderAddress string
	SenderName    string
	ReplyTo       string // empty for none
	Host          string // host:port
	TLS           bool   // TLS or nothing; false is plain text
	User          string
	Auth          Auth
	XOAuth2       XOAuth2 // zero unless Auth is AuthXOAuth2
}

// Auth is how a provider authenticates.
type Auth int

// The ways to authenticate. AuthPlain means that a password is stored; which SASL mechanism carries
// it is the server's offer.
const (
	AuthNone Auth = iota
	AuthPlain
	AuthXOAuth2
)

// XOAuth2 is where a bearer token comes from (RFC 6749, section 4.4). The client secret is the
// provider's Credential.
type XOAuth2 struct {
	TokenEndpoint string
	ClientID      string
	Scopes        []string
}

func (x XOAuth2) equal(y XOAuth2) bool {
	return x.TokenEndpoint == y.TokenEndpoint && x.ClientID == y.ClientID && slices.Equal(x.Scopes, y.Scopes)
}

// HTTP is a webhook that mails are posted to.
type HTTP struct {
	Endpoint string
}

// Credential is the one secret of a provider: password, client secret or signing key.
type Credential struct {
	Version uint64    // counts the secrets this provider has had; 0 before the first
	Sealed  Sealed    // zero when none is stored
	SetAt   time.Time // zero before the first
	SetBy   string    // name of the caller that set it
}

// Stored reports whether there is a secret.
func (c Credential) Stored() bool { return len(c.Sealed.Ciphertext) > 0 }

// Previous is the password before the present one, kept for a while so that it can be brought back.
// The zero Previous is none.
type Previous struct {
	Credential
	User  string    // that it belongs to
	Until time.Time // when it is destroyed
}

// Sealed is an encrypted secret and the id of the key that opens it.
type Sealed struct {
	KeyID      uint32
	Ciphertext []byte
}

// clone returns a copy of p that shares nothing with it.
func (p Provider) clone() Provider {
	if p.SMTP != nil {
		s := *p.SMTP
		s.XOAuth2.Scopes = slices.Clone(s.XOAuth2.Scopes)
		p.SMTP = &s
	}
	if p.HTTP != nil {
		h := *p.HTTP
		p.HTTP = &h
	}
	return p
}
