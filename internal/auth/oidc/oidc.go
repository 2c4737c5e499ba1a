// Package oidc knows the tokens of others: JWT access tokens of an OpenID Connect issuer, and opaque ones
// that the issuer is asked about (RFC 7662).
//
// A JWT is looked at from the cheap to the costly: size and parts, header, claims, and then the signature.
// So a token that would not be good anyway costs no signature and no fetch. The keys are fetched in the
// background; a token makes us fetch them only if it names a key that is not known and is right in
// everything else, and then once in ten seconds at most.
//
// The algorithm belongs to the key and not to the token, and is one with a public key. What a header says
// about where to find keys is not read.
//
// A JWT that was verified is remembered until it expires, or until the issuer withdraws a key; so it is
// good for as long as it says, unless it is introspected too. Introspections are never remembered.
package oidc

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// maxIssuer bounds the URL of an issuer, which is part of every caller's name.
const maxIssuer = 200

// Config is whom an instance trusts. Issuer or Introspection is set.
type Config struct {
	Issuer        string // its URL, exactly as the tokens have it
	Audience      string // that tokens must be for; with an Issuer it must be set
	Introspection Introspection
	RoleClaim     string            // path of the claim with the roles: names with dots between
	Roles         map[string]string // values of that claim to roles of ours

	Dial  Dial           // opens connections; nil for a net.Dialer
	Roots *x509.CertPool // nil for the system's
	Now   func() time.Time
	Log   *slog.Logger
}

// Introspection is an endpoint that says whether a token is good now.
type Introspection struct {
	URL      string
	ClientID string
	Secret   secret.Text
	JWT      bool // ask about JWTs too, after they were verified
}

// Check returns what is wrong with a Config, by the names of serve's flags.
func (c Config) Check() error {
	in := c.Introspection
	switch {
	case c.Issuer != "" && c.Audience == "":
		return errors.New("--oidc-audience must be given with --oidc-issuer: else tokens for any other service would do")
	case len(c.Issuer) > maxIssuer:
		return fmt.Errorf("--oidc-issuer is longer than %d bytes", maxIssuer)
	case in.URL == "" && (in.ClientID != "" || !in.Secret.Empty() || in.JWT):
		return errors.New("--introspection-url is missing, which the other settings of introspection are for")
	case in.URL != "" && (in.ClientID == "" || in.Secret.Empty()):
		return errors.New("--introspection-url needs --introspection-client-id and a secret from --introspection-client-secret-file")
	case in.JWT && c.Issuer == "":
		return errors.New("--oidc-introspect-jwt needs --oidc-issuer; without one every token is introspected")
	}
	for flag, url := range map[string]string{"--oidc-issuer": c.Issuer, "--introspection-url": in.URL} {
		if url == "" {
			continue
		}
		if err := checkURL(url); err != nil {
			return fmt.Errorf("%s %w", flag, err)
		}
	}
	return c.checkRoles()
}

func (c Config) checkRoles() error {
	if !c.set() {
		if c.Audience != "" || len(c.Roles) > 0 {
			return errors.New("--oidc-audience and --oidc-role need --oidc-issuer or --introspection-url")
		}
		return nil
	}
	if c.RoleClaim == "" || len(c.Roles) == 0 {
		return errors.New("--oidc-role-claim and --oidc-role must say which claim gives which role: else no caller may do anything")
	}
	for value, role := range c.Roles {
		if value == "" || !auth.IsRole(role) {
			return fmt.Errorf("--oidc-role: %q is not of the form value=ROLE with one of %s", value+"="+role, strings.Join(auth.Roles(), ", "))
		}
	}
	return nil
}

// set reports whether anybody is trusted.
func (c Config) set() bool { return c.Issuer != "" || c.Introspection.URL != "" }

// Trust is whom one instance trusts. It is safe for concurrent use. Verify works as far as it can before
// and without Run.
type Trust struct {
	instance  string
	config    Config
	roles     mapping
	client    *http.Client
	keys      atomic.Pointer[keySet] // nil until the issuer was found
	cache     cache
	questions chan struct{}
}

// New returns a Trust, or nil if the Config trusts nobody.
func New(instance string, c Config) (*Trust, error) {
	if err := c.Check(); err != nil || !c.set() {
		return nil, err
	}
	return &Trust{
		instance: instance, config: c, roles: mapping{c.RoleClaim, c.Roles},
		client: newClient(c.Dial, c.Roots), questions: make(chan struct{}, maxQuestions),
	}, nil
}

// Verify returns who a token speaks for, or auth.ErrNotFound for one that nobody is asked about. Why a token
// is refused is in the log only, for whoever sets an issuer up.
func (t *Trust) Verify(ctx context.Context, token string) (auth.Caller, error) {
	caller, err := t.verify(ctx, token)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Unauthenticated {
		t.config.Log.DebugContext(ctx, "a token is refused", "why", errors.Unwrap(err))
	}
	return caller, err
}

func (t *Trust) verify(ctx context.Context, token string) (auth.Caller, error) {
	isJWT, opaque := auth.IsJWT(token), t.config.Introspection.URL != ""
	switch {
	case isJWT && t.config.Issuer != "":
		caller, err := t.verifyJWT(ctx, token)
		if err == nil && t.config.Introspection.JWT {
			return t.introspect(ctx, token)
		}
		return caller, err
	case opaque:
		return t.introspect(ctx, token)
	}
	return auth.Caller{}, auth.ErrNotFound
}

// outage is why a token could not be looked at.
type outage struct{ cause error }

// Error implements error.
func (o *outage) Error() string { return o.cause.Error() }

// Unwrap returns the cause.
func (o *outage) Unwrap() error { return o.cause }

func unavailable(why *outage) error { return errUnavailable.Because(why) }

var errUnavailable = fault.New(fault.Unavailable, "MAILKEEP-ISSUER",
	"the issuer of tokens can't be asked about this one now; try again later")

// Set is whom each instance trusts. It implements auth.Others.
type Set map[string]*Trust

// Verify implements auth.Others.
func (s Set) Verify(ctx context.Context, instance, token string) (auth.Caller, error) {
	if t := s[instance]; t != nil {
		return t.Verify(ctx, token)
	}
	return auth.Caller{}, auth.ErrNotFound
}
