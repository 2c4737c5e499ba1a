package main

import (
	"errors"
	"fmt"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// authKind is how a provider authenticates; empty for what nobody has said.
type authKind string

const (
	authNone    authKind = "none"
	authPlain   authKind = "plain"
	authXOAuth2 authKind = "xoauth2"
)

// authOf returns how a stored provider authenticates.
func authOf(s *settingsv1.EmailProviderSMTP) authKind {
	switch {
	case s.GetXoauth2() != nil:
		return authXOAuth2
	case s.GetPlain() != nil:
		return authPlain
	}
	return authNone
}

// secretName is what people call the secret of the kind, and secretFlag what asks for it.
func (k authKind) secretName() string {
	if k == authXOAuth2 {
		return "client secret"
	}
	return "password"
}

func (k authKind) secretFlag() string {
	if k == authXOAuth2 {
		return "--client-secret-stdin"
	}
	return "--password-stdin"
}

// authFlags say how an SMTP provider authenticates. A secret is never the value of a flag: the
// arguments of a process are for all to see.
type authFlags struct {
	Auth              authKind `enum:"none,plain,xoauth2," default:"" group:"SMTP:" placeholder:"KIND" help:"How to authenticate: none, plain (user and password, by what the server offers) or xoauth2 (OAuth 2.0 client credentials) (${auth_default})."`
	PasswordStdin     bool     `group:"SMTP:" help:"Read the password from standard input, without echo at a terminal."`
	TokenEndpoint     *string  `group:"SMTP:" placeholder:"URL" help:"Where xoauth2 gets its token (RFC 6749, section 3.2)."`
	ClientID          *string  `group:"SMTP:" name:"client-id" placeholder:"ID" help:"Client identifier for xoauth2."`
	Scope             []string `group:"SMTP:" sep:"none" placeholder:"SCOPE" help:"Scope to ask for with xoauth2; may be repeated."`
	ClientSecretStdin bool     `group:"SMTP:" help:"Read the client secret for xoauth2 from standard input, without echo at a terminal."`
}

// readsSecret reports whether the secret of the kind is asked for.
func (f *authFlags) readsSecret(kind authKind) bool {
	return kind == authPlain && f.PasswordStdin || kind == authXOAuth2 && f.ClientSecretStdin
}

func (f *authFlags) hasXOAuth2() bool {
	return f.TokenEndpoint != nil || f.ClientID != nil || f.Scope != nil || f.ClientSecretStdin
}

// check refuses flags that do not go with the kind.
func (f *authFlags) check(kind authKind) error {
	switch {
	case f.hasXOAuth2() && kind != authXOAuth2:
		return errors.New("--token-endpoint, --client-id, --scope and --client-secret-stdin are for --auth xoauth2")
	case f.PasswordStdin && kind != authPlain:
		return errors.New("--password-stdin is for --auth plain, which needs --user")
	}
	return nil
}

// checkNew refuses a kind that a provider does not have yet without what it needs. A secret can be
// asked for at a terminal.
func (f *authFlags) checkNew(kind authKind, s streams) error {
	if kind == authXOAuth2 && (f.TokenEndpoint == nil || f.ClientID == nil) {
		return errors.New("--auth xoauth2 needs --token-endpoint and --client-id")
	}
	if _, ok := s.terminal(); !ok && kind != authNone && !f.readsSecret(kind) {
		return fmt.Errorf("the %s is missing: %s reads it from standard input", kind.secretName(), kind.secretFlag())
	}
	return nil
}

// scopes are those given; a single empty one is how none is said.
func (f *authFlags) scopes() []string {
	if len(f.Scope) == 1 && f.Scope[0] == "" {
		return nil
	}
	return f.Scope
}

// xoauth2 is the request for XOAUTH2; an empty secret keeps the stored one.
func xoauth2(endpoint, clientID string, scopes []string, plain secret.Text) *adminv1.SMTPXOAuth2Auth {
	return &adminv1.SMTPXOAuth2Auth{
		TokenEndpoint: endpoint, Scopes: scopes,
		OAuth2Type: &adminv1.SMTPXOAuth2Auth_ClientCredentials_{
			ClientCredentials: &adminv1.SMTPXOAuth2Auth_ClientCredentials{ClientId: clientID, ClientSecret: plain.Reveal()},
		},
	}
}
