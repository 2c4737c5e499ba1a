// Package auth says who calls and what they may do: a bearer token becomes a Caller, the Caller's
// roles become permissions.
//
// A token is shown once. What is stored is its SHA-256: tokens have 256 random bits, so a slow hash
// would protect nothing.
package auth

import (
	"context"
	"errors"
	"time"
)

// Token is a stored bearer token, without its secret.
type Token struct {
	Instance string
	ID       string
	Name     string
	Hash     [32]byte // SHA-256 of the whole token
	Roles    []string
	Created  time.Time
	Expires  time.Time // zero for never
}

var (
	// ErrNotFound is what a Store answers for a token it does not have.
	ErrNotFound = errors.New("auth: no such token")
	// ErrRevoked is what a Store answers to a token that was revoked.
	ErrRevoked = errors.New("this token was revoked and can't be used again")
)

// Store keeps tokens. Its contract is the suite in storetest.
type Store interface {
	// TokenByHash returns the token with this hash, of whatever instance, or ErrNotFound.
	TokenByHash(ctx context.Context, hash [32]byte) (Token, error)
	// Tokens returns the tokens of an instance, oldest first, ties by id.
	Tokens(ctx context.Context, instance string) ([]Token, error)
	// PutToken adds a token, or replaces the one with the same instance and id. One whose hash was
	// revoked, in whatever instance, is ErrRevoked.
	PutToken(ctx context.Context, t Token) error
	// RevokeToken deletes a token and remembers its hash, or answers ErrNotFound, or what refuse does with the
	// token, which may be called again. After nil and ErrNotFound, whoever has revoked it, TokenByHash does not find
	// it any more, in any process.
	RevokeToken(ctx context.Context, instance, id string, refuse func(Token) error) error
	// HadTokens reports whether the instance has or ever had a token.
	HadTokens(ctx context.Context, instance string) (bool, error)
}
