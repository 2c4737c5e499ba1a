package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// keyFile is a seal.File at a path.
type keyFile string

func (f keyFile) Read() ([]byte, error)   { return datadir.ReadFile(string(f)) }
func (f keyFile) Write(data []byte) error { return datadir.WriteFile(string(f), data) }

// noKeys opens nothing.
type noKeys struct{}

func (noKeys) Seal(secret.Text, emailprovider.Binding) (emailprovider.Sealed, error) {
	return emailprovider.Sealed{}, seal.ErrNoKeyset
}

func (noKeys) Open(emailprovider.Sealed, emailprovider.Binding) (secret.Text, error) {
	return secret.Text{}, seal.ErrNoKeyset
}

// keyStore is what is sealed, and what tells whether a keyset is the right one.
type keyStore interface {
	emailprovider.Vault
	seal.Checks
	seal.InstanceKeys
}

// openKeyset loads the keyset, or makes one if nothing was ever sealed. A keyset that can't open
// what is stored is refused with the names of the providers that would be lost, and so is one that
// lacks a key that another replica has.
//
// With a new keyset the default instance gets a key of its own. An older installation gets one with the next
// rotation: until then its replicas of the version before can open everything.
func openKeyset(ctx context.Context, path string, store keyStore, now func() time.Time) (*seal.Keyset, *seal.Ring, error) {
	keyset, err := seal.Load(keyFile(path))
	created := errors.Is(err, seal.ErrNoKeyset)
	switch {
	case created:
		if keyset, err = createKeyset(ctx, path, store); err != nil {
			return nil, nil, err
		}
	case err != nil:
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	ring := seal.NewRing(keyset, store, now)
	if err := emailprovider.CheckKeys(ctx, store, ring); err != nil {
		return nil, nil, fmt.Errorf("%s (--keyset-file) does not fit the database: %w", path, err)
	}
	if err := keyset.Check(ctx, store); err != nil {
		return nil, nil, fmt.Errorf("%s: %w; bring the present file of a service that works with this database, or name it with --keyset-file", path, err)
	}
	if created {
		return keyset, ring, ring.Renew(ctx, instance.Default)
	}
	return keyset, ring, nil
}

// createKeyset makes a keyset for a database that was never used with one.
func createKeyset(ctx context.Context, path string, store keyStore) (*seal.Keyset, error) {
	none := fmt.Sprintf("there is no keyset at %s: bring it back, or name it with --keyset-file", path)
	if err := emailprovider.CheckKeys(ctx, store, noKeys{}); err != nil {
		return nil, fmt.Errorf("%s: %w", none, err)
	}
	checks, err := store.KeyChecks(ctx)
	if err != nil {
		return nil, err
	}
	if len(checks) > 0 {
		return nil, fmt.Errorf("%s: every replica must have the keyset that this database was used with", none)
	}
	return seal.Create(keyFile(path))
}

// rotation returns the operation behind KeyService, which one process does at a time.
func rotation(keyset *seal.Keyset, ring *seal.Ring, store keyStore, alone func(context.Context, func() error) error) func(context.Context) (uint32, uint64, error) {
	return func(ctx context.Context) (primary uint32, resealed uint64, err error) {
		err = alone(ctx, func() (err error) {
			if primary, err = keyset.Rotate(); err != nil {
				return err
			}
			if err = keyset.Check(ctx, store); err != nil {
				return err
			}
			if err = ring.RenewAll(ctx); err != nil {
				return emailprovider.Unfinished(err)
			}
			resealed, err = emailprovider.Reseal(ctx, store, ring, ring.Current)
			return err
		})
		return primary, resealed, err
	}
}
