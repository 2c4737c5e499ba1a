// Package storetest is the contract of auth.Store as a test suite.
package storetest

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailkeep/mailkeep/internal/auth"
)

// Opener returns a fresh store that has the instances named, without tokens.
type Opener func(t *testing.T, instances ...string) auth.Store

// Run holds the stores that open returns to the contract. A store may keep times to the
// microsecond.
func Run(t *testing.T, open Opener) {
	t.Run("TokenByHash", func(t *testing.T) { testTokenByHash(t, open(t, one, two)) })
	t.Run("Tokens", func(t *testing.T) { testTokens(t, open(t, one, two)) })
	t.Run("Put", func(t *testing.T) { testPut(t, open(t, one, two)) })
	t.Run("Revoke", func(t *testing.T) { testRevoke(t, open(t, one, two)) })
	t.Run("HadTokens", func(t *testing.T) { testHadTokens(t, open(t, one, two)) })
}

const (
	one = "instance-1"
	two = "instance-2"
)

func token(instance, id string, created int) auth.Token {
	return auth.Token{
		Instance: instance,
		ID:       id,
		Name:     "token " + id,
		Hash:     sha256.Sum256([]byte(instance + id)),
		Roles:    []string{"IAM_OWNER", "IAM_OWNER_VIEWER"},
		Created:  time.Date(2030, 1, created, 0, 0, 0, 1000, time.UTC),
		Expires:  time.Date(2031, 1, created, 0, 0, 0, 0, time.UTC),
	}
}

func put(t *testing.T, s auth.Store, tokens ...auth.Token) {
	t.Helper()
	for _, token := range tokens {
		if err := s.PutToken(t.Context(), token); err != nil {
			t.Fatalf("PutToken %s: %v", token.ID, err)
		}
	}
}

func wantToken(t *testing.T, s auth.Store, want auth.Token) {
	t.Helper()
	got, err := s.TokenByHash(t.Context(), want.Hash)
	if err != nil {
		t.Fatalf("TokenByHash of %s: %v", want.ID, err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("TokenByHash (-want +got):\n%s", diff)
	}
}

func wantNone(t *testing.T, s auth.Store, hash [32]byte) {
	t.Helper()
	if got, err := s.TokenByHash(t.Context(), hash); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("TokenByHash: %v, %v, want ErrNotFound", got, err)
	}
}

func wantTokens(t *testing.T, s auth.Store, instance string, want ...auth.Token) {
	t.Helper()
	got, err := s.Tokens(t.Context(), instance)
	if err != nil {
		t.Fatalf("Tokens: %v", err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Tokens of %s (-want +got):\n%s", instance, diff)
	}
}

func testTokenByHash(t *testing.T, s auth.Store) {
	full, bare, theirs := token(one, "1", 1), token(one, "2", 2), token(two, "1", 1)
	bare.Name, bare.Roles, bare.Expires = "", nil, time.Time{}
	wantNone(t, s, full.Hash)
	put(t, s, full, bare, theirs)
	for _, want := range []auth.Token{full, bare, theirs} {
		wantToken(t, s, want)
	}
	wantNone(t, s, [32]byte{})
}

func testTokens(t *testing.T, s auth.Store) {
	oldest, tie, other := token(one, "9", 1), token(one, "2", 2), token(one, "1", 2)
	theirs := token(two, "5", 1)
	put(t, s, tie, theirs, other, oldest)
	wantTokens(t, s, one, oldest, other, tie)
	wantTokens(t, s, two, theirs)
	wantTokens(t, s, "instance-3")
}

func testPut(t *testing.T, s auth.Store) {
	before, theirs := token(one, "1", 1), token(two, "1", 1)
	put(t, s, before, theirs)
	after := token(one, "1", 3)
	after.Hash, after.Name, after.Roles = [32]byte{1}, "renamed", []string{"IAM_LOGIN_CLIENT"}
	put(t, s, after)
	wantToken(t, s, after)
	wantNone(t, s, before.Hash)
	wantTokens(t, s, one, after)
	wantTokens(t, s, two, theirs)
}

func testRevoke(t *testing.T, s auth.Store) {
	mine, theirs := token(one, "1", 1), token(two, "1", 1)
	put(t, s, mine, theirs)
	refused := errors.New("refused")
	err := s.RevokeToken(t.Context(), one, "1", func(got auth.Token) error {
		if got.ID != mine.ID || !slices.Equal(got.Roles, mine.Roles) {
			t.Errorf("asked about %+v", got)
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("RevokeToken of one that is refused: %v", err)
	}
	wantToken(t, s, mine)
	if err := s.RevokeToken(t.Context(), one, "1", anyToken); err != nil {
		t.Fatalf("RevokeToken: %v", err)
	}
	wantNone(t, s, mine.Hash)
	wantToken(t, s, theirs)
	for _, unknown := range []string{"1", "2", "a NUL \x00"} {
		if err := s.RevokeToken(t.Context(), one, unknown, anyToken); !errors.Is(err, auth.ErrNotFound) {
			t.Errorf("RevokeToken %s: %v, want ErrNotFound", unknown, err)
		}
	}
	again := mine
	again.ID = "3"
	for _, revoked := range []auth.Token{mine, again} {
		if err := s.PutToken(t.Context(), revoked); !errors.Is(err, auth.ErrRevoked) {
			t.Errorf("PutToken of a revoked one as %s: %v, want ErrRevoked", revoked.ID, err)
		}
	}
	wantNone(t, s, mine.Hash)
}

// anyToken may be revoked.
func anyToken(auth.Token) error { return nil }

func testHadTokens(t *testing.T, s auth.Store) {
	want := func(when string, want bool) {
		t.Helper()
		if had, err := s.HadTokens(t.Context(), one); had != want || err != nil {
			t.Errorf("HadTokens %s: %t, %v", when, had, err)
		}
	}
	put(t, s, token(two, "1", 1))
	want("at first", false)
	put(t, s, token(one, "1", 1))
	want("with a token", true)
	if err := s.RevokeToken(t.Context(), one, "1", anyToken); err != nil {
		t.Fatal(err)
	}
	want("after its revocation", true)
}
