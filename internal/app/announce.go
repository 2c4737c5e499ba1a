package app

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// announcing is a store that tells of every change of a provider.
type announcing struct {
	emailprovider.Store
	changed func(instance string, sequence uint64)
}

// Apply implements emailprovider.Store.
func (s announcing) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	sequence, err := s.Store.Apply(ctx, c)
	if err == nil {
		s.changed(c.Event.Instance, sequence)
	}
	return sequence, err
}
