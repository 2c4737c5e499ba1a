package emailprovider

import (
	"context"
	"crypto/rand"
	"math/big"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// HTTPSettings is a whole set of webhook settings as a caller gives them.
type HTTPSettings struct {
	Endpoint    string
	Description string
	// NewSigningKey asks an update for a new signing key; the old one stops at once.
	NewSigningKey bool
}

func (in HTTPSettings) check() error {
	if err := checkURL(in.Endpoint); err != "" {
		return invalid("COMMAND-Sz84nFo3aK", "endpoint "+err)
	}
	return checkDescription(in.Description)
}

// AddHTTP adds an HTTP provider, inactive, and returns it with its signing key.
func (s *Service) AddHTTP(ctx context.Context, c Caller, in HTTPSettings) (Provider, secret.Text, error) {
	if err := in.check(); err != nil {
		return Provider{}, secret.Text{}, err
	}
	if err := s.mayPost(ctx, in.Endpoint); err != nil {
		return Provider{}, secret.Text{}, err
	}
	key := newSigningKey()
	p, err := s.add(ctx, c, Provider{Description: in.Description, HTTP: &HTTP{Endpoint: in.Endpoint}},
		decision{fields: []string{"endpoint", "description", "signing_key"}, secret: setSecret, plain: key})
	return p, key, err
}

// UpdateHTTP replaces the settings of an HTTP provider. The key is empty unless a new one was made.
func (s *Service) UpdateHTTP(ctx context.Context, c Caller, id string, in HTTPSettings) (Provider, secret.Text, error) {
	if err := in.check(); err != nil {
		return Provider{}, secret.Text{}, err
	}
	if err := s.mayPost(ctx, in.Endpoint); err != nil {
		return Provider{}, secret.Text{}, err
	}
	var key secret.Text
	if in.NewSigningKey {
		key = newSigningKey()
	}
	p, err := s.changeRecent(ctx, c, id, updateHTTP, func(p *Provider) (decision, error) {
		if p.HTTP == nil {
			return decision{}, notFound(updateHTTP.notFound)
		}
		return decideUpdateHTTP(p, in, key), nil
	})
	return p, key, err
}

func decideUpdateHTTP(p *Provider, in HTTPSettings, key secret.Text) decision {
	var d decision
	if p.HTTP.Endpoint != in.Endpoint {
		d.fields = append(d.fields, "endpoint")
	}
	if p.Description != in.Description {
		d.fields = append(d.fields, "description")
	}
	if !key.Empty() {
		d.secret, d.plain, d.fields = setSecret, key, append(d.fields, "signing_key")
	}
	if len(d.fields) > 0 {
		d.event = EventUpdated
	}
	p.HTTP.Endpoint, p.Description = in.Endpoint, in.Description
	return d
}

// SigningKey returns the key of an HTTP provider, for callers who may see it.
func (s *Service) SigningKey(p Provider) (secret.Text, error) { return s.open(p) }

// newSigningKey returns 36 random letters and digits, 214 bits.
func newSigningKey() secret.Text {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	key := make([]byte, 36)
	for i := range key {
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet)))) // never fails (crypto/rand)
		key[i] = alphabet[n.Int64()]
	}
	return secret.New(string(key))
}
