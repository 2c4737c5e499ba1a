package auth

import (
	"context"
	"strings"
)

// Others knows the tokens that others issue.
type Others interface {
	// Verify returns who a token of the instance speaks for. The error is that of Invalid for a token
	// that is not good, ErrNotFound if nobody can be asked about such a token, and UNAVAILABLE if
	// nobody could be asked just now.
	Verify(ctx context.Context, instance, token string) (Caller, error)
}

// IsJWT reports whether a token has the form of a JWT: three parts, of which the first is a JSON object in
// base64url. It is not parsed.
func IsJWT(token string) bool {
	object := strings.HasPrefix(token, "ey") || strings.HasPrefix(token, "ew") // a brace, and a quote or white space
	return object && strings.Count(token, ".") == 2
}

// Invalid is what a caller hears of every token that is not good; why is for logs.
func Invalid(why error) error { return errInvalid.Because(why) }
