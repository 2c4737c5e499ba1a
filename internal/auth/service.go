package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	// prefix starts every token that Mailkeep makes, so that secret scanners can find them.
	prefix = "mailkeep_"
	// maxToken bounds what is hashed, in bytes.
	maxToken = 8192
	// minChosen is the least length of a token that an operator chose, in bytes.
	minChosen = 32
	// adminID is the id of the token that an installation starts with.
	adminID = "admin"
)

// What a caller without a valid token hears. All invalid tokens look the same.
var (
	errMissing   = fault.New(fault.Unauthenticated, "", "auth header missing")
	errNotBearer = fault.New(fault.Unauthenticated, "AUTH-toLo1", "auth header is not of the form Bearer <token>")
	errInvalid   = fault.New(fault.Unauthenticated, "AUTH-7fs1e", "token is invalid or expired")
	errNoToken   = fault.New(fault.NotFound, "MAILKEEP-TOKEN", "token not found")
	errMore      = fault.New(fault.PermissionDenied, "MAILKEEP-ROLE", "the token has permissions that you do not have")
	errDenied    = fault.New(fault.PermissionDenied, "AUTH-5mWD2", "no permission for this method")
)

// Service is every operation on tokens. It is safe for concurrent use.
type Service struct {
	store  Store
	others Others
	now    func() time.Time

	// Room returns why an instance may not have one more token; nil for no bound. It is set before the
	// Service is used.
	Room func(ctx context.Context, instance string) error
}

// NewService returns a Service that takes the tokens of others too, unless others is nil; now is time.Now
// outside of tests.
func NewService(store Store, others Others, now func() time.Time) *Service {
	return &Service{store: store, others: others, now: now}
}

// Authenticate turns the values of the Authorization header into a Caller of the instance.
func (s *Service) Authenticate(ctx context.Context, instance string, authorization []string) (Caller, error) {
	if len(authorization) == 0 || authorization[0] == "" && len(authorization) == 1 {
		return Caller{}, errMissing
	}
	scheme, token, ok := strings.Cut(authorization[0], " ")
	if !ok || len(authorization) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return Caller{}, errNotBearer
	}
	if token == "" || len(token) > maxToken {
		return Caller{}, errInvalid
	}
	caller, err := s.callerOf(ctx, instance, token)
	if errors.Is(err, ErrNotFound) {
		return Caller{}, errInvalid
	}
	return caller, err
}

// callerOf finds out whose token it is. A JWT is never ours, and what has our prefix is nobody else's; the
// admin token may look like an opaque one of others. ErrNotFound says that nobody knows it.
func (s *Service) callerOf(ctx context.Context, instance, token string) (Caller, error) {
	if s.others == nil || strings.HasPrefix(token, prefix) {
		return s.own(ctx, instance, token)
	}
	if !IsJWT(token) {
		if caller, err := s.own(ctx, instance, token); !errors.Is(err, ErrNotFound) {
			return caller, err
		}
	}
	return s.others.Verify(ctx, instance, token)
}

// own returns the caller of a token of ours.
func (s *Service) own(ctx context.Context, instance, token string) (Caller, error) {
	t, err := s.store.TokenByHash(ctx, hashOf(token))
	if err != nil {
		return Caller{}, err
	}
	if t.Instance != instance || s.expired(t) {
		return Caller{}, errInvalid
	}
	return Caller{Instance: t.Instance, TokenID: t.ID, Name: t.Name, Roles: t.Roles}, nil
}

// hashOf returns the SHA-256 of a token. One of a usual length is not copied to the heap.
func hashOf(token string) [sha256.Size]byte {
	var copied [128]byte
	return sha256.Sum256(append(copied[:0], token...))
}

func (s *Service) expired(t Token) bool { return !t.Expires.IsZero() && !s.now().Before(t.Expires) }

// Authorize returns nil if the caller has the permission; an empty permission is nobody's.
func Authorize(c Caller, permission string) error {
	if permission == "" || !c.May(permission) {
		return errDenied
	}
	return nil
}

// Create makes a token for the caller's instance and returns it with what the holder sends. A
// token without a lifetime is for ever.
func (s *Service) Create(ctx context.Context, by Caller, name string, roles []string, lifetime *time.Duration) (Token, secret.Text, error) {
	if err := checkNew(by, name, roles, lifetime); err != nil {
		return Token{}, secret.Text{}, err
	}
	if s.Room != nil {
		if err := s.Room(ctx, by.Instance); err != nil {
			return Token{}, secret.Text{}, err
		}
	}
	id := newID()
	plain := newToken(id)
	now := s.now().UTC().Truncate(time.Microsecond)
	t := Token{
		Instance: by.Instance, ID: id, Name: name, Roles: roles, Created: now,
		Hash: hashOf(plain.Reveal()),
	}
	if lifetime != nil {
		t.Expires = now.Add(*lifetime)
	}
	return t, plain, s.store.PutToken(ctx, t)
}

func checkNew(by Caller, name string, roles []string, lifetime *time.Duration) error {
	if strings.TrimSpace(name) == "" || strings.ContainsFunc(name, unicode.IsControl) {
		return fault.New(fault.InvalidArgument, "MAILKEEP-NAME", "name is empty or contains control characters")
	}
	if lifetime != nil && *lifetime <= 0 {
		return fault.New(fault.InvalidArgument, "MAILKEEP-LIFETIME", "lifetime is not a positive duration; leave it out for ever")
	}
	if len(roles) == 0 {
		return unknownRole("roles is empty")
	}
	for _, role := range roles {
		if _, ok := permissions[role]; !ok {
			return unknownRole("roles contains one that does not exist")
		}
		if !by.mayGive(role) {
			return fault.Newf(fault.PermissionDenied, "MAILKEEP-ROLE", "role %s has permissions that you do not have", role)
		}
	}
	return nil
}

func newID() string { return strings.ToLower(rand.Text()[:12]) }

func unknownRole(text string) error {
	return fault.Newf(fault.InvalidArgument, "MAILKEEP-ROLE", "%s; there are %s", text, strings.Join(Roles(), ", "))
}

// newToken returns mailkeep_<id>.<256 random bits>.
func newToken(id string) secret.Text {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return secret.New(prefix + id + "." + base64.RawURLEncoding.EncodeToString(random[:]))
}

// List returns the tokens of the caller's instance, oldest first.
func (s *Service) List(ctx context.Context, by Caller) ([]Token, error) {
	return s.store.Tokens(ctx, by.Instance)
}

// Revoke ends a token at once and for good. Nobody can revoke a token that may do more than they.
func (s *Service) Revoke(ctx context.Context, by Caller, id string) error {
	err := s.store.RevokeToken(ctx, by.Instance, id, func(t Token) error {
		if slices.ContainsFunc(t.Roles, func(role string) bool { return !by.mayGive(role) }) {
			return errMore
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return errNoToken
	}
	return err
}

// NewAdminToken returns a token to hand to SetAdminToken.
func NewAdminToken() secret.Text { return newToken(adminID) }

// NewOwner returns the first token of an instance, for whoever stores it, and what its holder sends.
func NewOwner(instance string, now time.Time) (Token, secret.Text) {
	id := newID()
	plain := newToken(id)
	return Token{
		Instance: instance, ID: id, Name: "owner", Roles: ownerRoles,
		Hash: hashOf(plain.Reveal()), Created: now,
	}, plain
}

// SetAdminToken makes token the admin token of the instance, in place of the one before. It may be
// any text of at least 32 bytes that fits in a header.
func (s *Service) SetAdminToken(ctx context.Context, instance string, token secret.Text) error {
	plain := token.Reveal()
	if len(plain) < minChosen || len(plain) > maxToken {
		return fmt.Errorf("the admin token must have %d to %d bytes", minChosen, maxToken)
	}
	if strings.ContainsFunc(plain, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the admin token may have only printable ASCII characters and no spaces")
	}
	if IsJWT(plain) {
		return errors.New("the admin token must not look like a JWT, which is taken for an issuer's")
	}
	return s.store.PutToken(ctx, Token{
		Instance: instance, ID: adminID, Name: adminID, Roles: adminRoles,
		Hash: hashOf(plain), Created: s.now().UTC().Truncate(time.Microsecond),
	})
}

// HadTokens reports whether the instance has or had any token, which is so after its first start.
func (s *Service) HadTokens(ctx context.Context, instance string) (bool, error) {
	return s.store.HadTokens(ctx, instance)
}
