package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mailkeep/mailkeep/internal/auth"
)

// maxQuestions bounds the introspections at a time: whoever makes tokens up makes us ask.
const maxQuestions = 64

// answer is what an introspection endpoint says (RFC 7662, section 2.2).
type answer struct {
	claims
	active bool
	kind   string // token_type
}

// introspect returns who a token speaks for, as the issuer says now. No answer is kept and none is shared
// with another call, so a token that was revoked before the call began is refused.
func (t *Trust) introspect(ctx context.Context, token string) (auth.Caller, error) {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return auth.Caller{}, auth.Invalid(errors.New("characters that tokens don't have (RFC 6750, section 2.1)"))
	}
	select {
	case t.questions <- struct{}{}:
		defer func() { <-t.questions }()
	default:
		return auth.Caller{}, unavailable(&outage{fmt.Errorf("more than %d introspections at a time", maxQuestions)})
	}
	a, err := t.ask(ctx, token)
	switch {
	case ctx.Err() != nil:
		return auth.Caller{}, ctx.Err()
	case err != nil:
		return auth.Caller{}, unavailable(&outage{fmt.Errorf("introspection: %w", err)})
	}
	if err := t.checkAnswer(a); err != nil {
		return auth.Caller{}, auth.Invalid(err)
	}
	return a.caller(t.instance, t.issuerOf(a), t.roles), nil
}

// checkAnswer refuses a token that is not active, and one that is active for something else, as refresh
// tokens are.
func (t *Trust) checkAnswer(a answer) error {
	switch {
	case !a.active:
		return errors.New("not active")
	case a.kind != "" && !strings.EqualFold(a.kind, "Bearer"):
		return errors.New("no bearer token")
	case t.config.Issuer != "" && a.issuer != "" && a.issuer != t.config.Issuer:
		return errors.New("another issuer")
	case t.config.Audience != "" && !slices.Contains(a.audience, t.config.Audience):
		return errors.New("another audience")
	}
	return a.checkUse(t.config.Now())
}

// issuerOf returns who vouches for an answer: the endpoint's host if nobody says.
func (t *Trust) issuerOf(a answer) string {
	switch {
	case t.config.Issuer != "":
		return t.config.Issuer
	case a.issuer != "" && len(a.issuer) <= maxIssuer:
		return a.issuer
	}
	u, _ := url.Parse(t.config.Introspection.URL) // which was checked
	return u.Scheme + "://" + u.Host
}

// ask asks the endpoint about a token. Nothing of the answer is in the error: it may repeat the token.
func (t *Trust) ask(ctx context.Context, token string) (a answer, err error) {
	in := t.config.Introspection
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, in.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return a, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	r.SetBasicAuth(url.QueryEscape(in.ClientID), url.QueryEscape(in.Secret.Reveal()))
	resp, err := t.client.Do(r)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if a.claims, err = readClaims(body); err != nil {
		return a, err
	}
	var said bool
	if a.active, said = a.all["active"].(bool); !said {
		return a, errors.New("the answer does not say whether the token is active")
	}
	a.kind = a.text("token_type")
	return a, nil
}
