package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect/v2"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	settingsv1 "github.com/mailkeep/mailkeep/gen/zitadel/settings/v1"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// authenticate says in the request what becomes of the authentication. Without the oneof and without
// a password, what is stored stays.
func (u *updateCommand) authenticate(ctx context.Context, c *client, s *settingsv1.EmailProviderSMTP, req *adminv1.UpdateEmailProviderSMTPRequest) error {
	kind := u.kind(s)
	if err := u.check(kind); err != nil {
		return fmt.Errorf("%s authenticates with %s: %w", u.ID, authOf(s), err)
	}
	isNew := kind != authOf(s)
	if isNew {
		if err := u.checkNew(kind, c.streams); err != nil {
			return err
		}
	}
	var plain secret.Text
	if kind != authNone && (isNew || u.readsSecret(kind)) {
		var err error
		if plain, err = c.readSecret(ctx, kind.secretName()); err != nil {
			return err
		}
	}
	switch {
	case kind == authPlain:
		req.Password = plain.Reveal()
	case u.Auth == authNone:
		req.Auth = &adminv1.UpdateEmailProviderSMTPRequest_None{None: &adminv1.SMTPNoAuth{}}
	case kind == authXOAuth2 && (isNew || u.hasXOAuth2()):
		req.Auth = &adminv1.UpdateEmailProviderSMTPRequest_Xoauth2{Xoauth2: u.merge(s.GetXoauth2(), plain)}
	}
	return nil
}

// kind is how the provider is to authenticate: as it does, unless the flags say otherwise. A first
// password is enough to say plain.
func (u *updateCommand) kind(s *settingsv1.EmailProviderSMTP) authKind {
	switch {
	case u.Auth != "":
		return u.Auth
	case u.PasswordStdin && authOf(s) == authNone:
		return authPlain
	}
	return authOf(s)
}

func (u *updateCommand) merge(stored *settingsv1.SMTPXOAuth2Auth, plain secret.Text) *adminv1.SMTPXOAuth2Auth {
	scopes := stored.GetScopes()
	if u.Scope != nil {
		scopes = u.scopes()
	}
	return xoauth2(or(u.TokenEndpoint, stored.GetTokenEndpoint()),
		or(u.ClientID, stored.GetClientCredentials().GetClientId()), scopes, plain)
}

// explainBinding adds to the refusal to carry a secret elsewhere what the flag for it is.
func explainBinding(err error, kind authKind) error {
	refusal, ok := errors.AsType[*connect.Error](err)
	if !ok || !strings.HasSuffix(refusal.Message(), "(MAILKEEP-BIND)") {
		return err
	}
	return fmt.Errorf("%s; give the %s again with %s", refusal.Message(), kind.secretName(), kind.secretFlag())
}
