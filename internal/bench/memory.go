package main

import (
	"context"
	"sync"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// memory is a store that reads each provider and each token from the store behind it once, and
// answers from memory from then on: what a call costs without a store.
type memory struct {
	app.Store
	providers sync.Map // id -> emailprovider.Provider
	tokens    sync.Map // hash -> auth.Token
}

func remember(s app.Store) app.Store { return &memory{Store: s} }

// Provider implements emailprovider.Store.
func (m *memory) Provider(ctx context.Context, instance, id string) (emailprovider.Provider, error) {
	if p, ok := m.providers.Load(id); ok {
		return p.(emailprovider.Provider), nil
	}
	p, err := m.Store.Provider(ctx, instance, id)
	if err == nil {
		m.providers.Store(id, p)
	}
	return p, err
}

// TokenByHash implements auth.Store.
func (m *memory) TokenByHash(ctx context.Context, hash [32]byte) (auth.Token, error) {
	if t, ok := m.tokens.Load(hash); ok {
		return t.(auth.Token), nil
	}
	t, err := m.Store.TokenByHash(ctx, hash)
	if err == nil {
		m.tokens.Store(hash, t)
	}
	return t, err
}
