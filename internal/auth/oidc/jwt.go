package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/mailkeep/mailkeep/internal/auth"
)

// header is what we read of a JWT's. Keys that it brings along, or says where to fetch, are none of
// ours.
type header struct {
	Algorithm string          `json:"alg"`
	KeyID     string          `json:"kid"`
	Type      string          `json:"typ"`
	Critical  json.RawMessage `json:"crit"`
}

// readHeader reads the header and refuses what no access token has, before anything costly is done.
func readHeader(token string) (h header, err error) {
	encoded, _, _ := strings.Cut(token, ".")
	if err := decode(encoded, &h); err != nil {
		return h, errors.New("a header that is not JSON")
	}
	switch {
	case !slices.Contains(algorithms, jose.SignatureAlgorithm(h.Algorithm)):
		return h, errors.New("an algorithm that is not allowed")
	case h.Critical != nil:
		return h, errors.New("extensions (crit), which are not supported")
	}
	switch strings.TrimPrefix(strings.ToLower(h.Type), "application/") {
	case "", "jwt", "at+jwt": // RFC 9068, section 2.1
		return h, nil
	}
	return h, errors.New("another type than that of access tokens")
}

func decode(encoded string, into any) error {
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// glance refuses a token for what it says itself, so that only one that would be good with the right
// signature is worth a look at the issuer's keys.
func (t *Trust) glance(token string) (header, error) {
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return header{}, errors.New("not three parts")
	}
	h, err := readHeader(token)
	if err != nil {
		return h, err
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return h, errors.New("claims that are not base64url")
	}
	c, err := readClaims(payload)
	if err != nil {
		return h, err
	}
	return h, c.check(t.config.Issuer, t.config.Audience, t.config.Now())
}

// verifyJWT returns who a JWT speaks for. One that was verified is remembered until it expires.
func (t *Trust) verifyJWT(ctx context.Context, token string) (auth.Caller, error) {
	hash, now := sha256.Sum256([]byte(token)), t.config.Now()
	if caller, ok := t.cache.get(hash, now); ok {
		return caller, nil
	}
	h, err := t.glance(token)
	if err != nil {
		return auth.Caller{}, auth.Invalid(err)
	}
	keys, err := t.keysFor(ctx, h)
	if down, ok := errors.AsType[*outage](err); ok {
		return auth.Caller{}, unavailable(down)
	}
	if ctx.Err() != nil {
		return auth.Caller{}, ctx.Err()
	}
	if err != nil {
		return auth.Caller{}, auth.Invalid(err)
	}
	state := t.cache.state()
	c, err := t.signed(ctx, keys, token)
	if err != nil {
		return auth.Caller{}, auth.Invalid(err)
	}
	caller, id := c.caller(t.instance, c.issuer, t.roles), c.text("jti")
	caller.TokenID = printable(id[:min(len(id), maxID)])
	t.cache.put(hash, verified{caller, c.expires}, now, state)
	return caller, nil
}

// maxID bounds what is kept of a token's id, in bytes.
const maxID = 100

// keysFor returns the issuer's keys, with the one that a header names.
func (t *Trust) keysFor(ctx context.Context, h header) (*keySet, error) {
	keys := t.keys.Load()
	if keys == nil {
		return nil, &outage{errors.New("the issuer was not found yet")}
	}
	return keys, keys.lookFor(ctx, h)
}

// signed returns the claims of a token that is right in everything. The times are left to claims.check,
// whose skew is not go-oidc's.
func (t *Trust) signed(ctx context.Context, keys *keySet, token string) (c claims, err error) {
	verifier := oidc.NewVerifier(t.config.Issuer, keys, &oidc.Config{
		ClientID: t.config.Audience, SupportedSigningAlgs: algorithmNames, SkipExpiryCheck: true,
	})
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		return c, errSignature // the rest was looked at before
	}
	var payload json.RawMessage
	if err := verified.Claims(&payload); err != nil {
		return c, err
	}
	if c, err = readClaims(payload); err != nil {
		return c, err
	}
	return c, c.check(t.config.Issuer, t.config.Audience, t.config.Now())
}
