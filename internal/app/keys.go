package app

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
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

// openKeyset loads the keyset, or makes one if nothing was ever sealed. A keyset that can't open
// what is stored is refused with the names of the providers that would be lost.
func openKeyset(ctx context.Context, path string, vault emailprovider.Vault) (*seal.Keyset, error) {
	keyset, err := seal.Load(keyFile(path))
	if errors.Is(err, seal.ErrNoKeyset) {
		if err := emailprovider.CheckKeys(ctx, vault, noKeys{}); err != nil {
			return nil, fmt.Errorf("there is no keyset at %s: bring it back, or name it with --keyset-file: %w", path, err)
		}
		return seal.Create(keyFile(path))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := emailprovider.CheckKeys(ctx, vault, keyset); err != nil {
		return nil, fmt.Errorf("%s does not fit the database: %w", path, err)
	}
	return keyset, nil
}

// rotation returns the operation behind KeyService, one at a time.
func rotation(keyset *seal.Keyset, vault emailprovider.Vault) func(context.Context) (uint32, uint64, error) {
	var mu sync.Mutex
	return func(ctx context.Context) (primary uint32, resealed uint64, err error) {
		mu.Lock()
		defer mu.Unlock()
		if primary, err = keyset.Rotate(); err != nil {
			return 0, 0, err
		}
		resealed, err = emailprovider.Reseal(ctx, vault, keyset, primary)
		return primary, resealed, err
	}
}
