package emailprovider

import (
	"encoding/binary"
	"strings"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// Sealer encrypts secrets. What was sealed under one Binding opens under no other.
type Sealer interface {
	Seal(plain secret.Text, to Binding) (Sealed, error)
	Open(sealed Sealed, to Binding) (secret.Text, error)
}

// Binding is what a secret belongs to. It is authenticated with the ciphertext, never stored.
type Binding struct {
	Instance string
	Provider string
	Field    string // password, client_secret or signing_key
	Version  uint64 // of the credential

	Host          string // host:port that the secret is sent to
	User          string
	TokenEndpoint string // that a client secret is sent to
	ClientID      string
}

// AssociatedData encodes b so that no two bindings have the same bytes: a version, then each field
// with its length before it.
func (b Binding) AssociatedData() []byte { return b.AppendAssociatedData(nil) }

// AppendAssociatedData appends AssociatedData to out.
func (b Binding) AppendAssociatedData(out []byte) []byte {
	out = append(out, bindingVersion...)
	out = binary.BigEndian.AppendUint64(out, b.Version)
	for _, s := range [...]string{b.Instance, b.Provider, b.Field, b.Host, b.User, b.TokenEndpoint, b.ClientID} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out
}

// bindingVersion names the encoding, and what it is for.
const bindingVersion = "mailkeep/credential/1"

// binding returns what p's credential belongs to.
func (p Provider) binding() Binding {
	b := Binding{Instance: p.Instance, Provider: p.ID, Version: p.Credential.Version, Field: "signing_key"}
	if p.SMTP == nil {
		return b
	}
	b.Host, b.User = strings.ToLower(p.SMTP.Host), p.SMTP.User
	if p.SMTP.Auth != AuthXOAuth2 {
		b.Field = "password"
		return b
	}
	b.Field = "client_secret"
	b.TokenEndpoint, b.ClientID = p.SMTP.XOAuth2.TokenEndpoint, p.SMTP.XOAuth2.ClientID
	return b
}
