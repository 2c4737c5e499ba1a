package app

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// announcing is a store that tells of every change that mails on their way have to know of.
type announcing struct {
	emailprovider.Store
	changed func(instance string, sequence uint64)
}

// Apply implements emailprovider.Store.
func (s announcing) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	sequence, err := s.Store.Apply(ctx, c)
	if err == nil && concernsMails(c) {
		s.changed(c.Event.Instance, sequence)
	}
	return sequence, err
}

// concernsMails reports whether the provider is the one that mails go through, or may have been.
func concernsMails(c emailprovider.Change) bool {
	return c.Put == nil || c.Put.State == emailprovider.Active || c.Event.Type == emailprovider.EventDeactivated
}
