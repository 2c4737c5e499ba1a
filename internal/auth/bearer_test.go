package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// known is a store with one token.
type known struct {
	Store
	token Token
}

// TokenByHash implements Store.
func (k known) TokenByHash(_ context.Context, hash [32]byte) (Token, error) {
	if hash != k.token.Hash {
		return Token{}, ErrNotFound
	}
	return k.token, nil
}

// FuzzAuthenticate: exactly one header lets its caller in, the scheme in any case, one space, the token;
// any other is told no more than what is wrong with its form.
func FuzzAuthenticate(f *testing.F) {
	const token = "mailkeep_abc.0123456789012345678901234567890123456789012"
	for _, s := range []string{
		"Bearer " + token, "bearer " + token, "BEARER " + token, "Bearer  " + token, "Bearer " + token + " ", "Bearer\t" + token, "Basic " + token, token,
		"Bearer", "Bearer ", "", "Bearer " + token + ", Bearer " + token, "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer " + strings.Repeat(".", maxToken+1), "Ｂearer x",
	} {
		f.Add(s, "", false)
		f.Add("Bearer "+token, s, true)
	}
	stored := Token{Instance: "default", ID: "abc", Hash: sha256.Sum256([]byte(token)), Roles: []string{"IAM_OWNER"}}
	s := NewService(known{token: stored}, nil, time.Now)
	f.Fuzz(func(t *testing.T, first, second string, two bool) {
		headers := []string{first}
		if two {
			headers = append(headers, second)
		}
		caller, err := s.Authenticate(t.Context(), "default", headers)
		scheme, rest := first[:min(6, len(first))], first[min(6, len(first)):]
		if good := !two && strings.EqualFold(scheme, "Bearer") && rest == " "+token; good != (err == nil) {
			t.Fatalf("%q: let in %t, want %t; %v", headers, err == nil, good, err)
		}
		if err == nil {
			if caller.TokenID != "abc" {
				t.Errorf("%+v", caller)
			}
			return
		}
		if caller.TokenID != "" || caller.Roles != nil || fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%q: %+v, %v", headers, caller, err)
		}
		if !errors.Is(err, errMissing) && !errors.Is(err, errNotBearer) && !errors.Is(err, errInvalid) {
			t.Errorf("%q: %v", headers, err)
		}
		if _, err := s.Authenticate(t.Context(), "another", headers); err == nil {
			t.Errorf("%q is let into another instance", headers)
		}
	})
}
