package app

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/seal"
)

// keyFile is a seal.File at a path.
type keyFile string

func (f keyFile) Read() ([]byte, error)   { return datadir.ReadFile(string(f)) }
func (f keyFile) Write(data []byte) error { return datadir.WriteFile(string(f), data) }

// openKeyset loads the keyset, or makes one if nothing was ever sealed. A keyset that can't open
// what is stored is refused with the names of the providers that would be lost.
func openKeyset(ctx context.Context, path string, vault emailprovider.Vault) (*seal.Keyset, error) {
	keyset, err := seal.Load(keyFile(path))
	if errors.Is(err, seal.ErrNoKeyset) {
		inUse, err := vault.KeysInUse(ctx)
		if err != nil {
			return nil, err
		}
		if len(inUse) > 0 {
			return nil, fmt.Errorf("there is no keyset at %s, but the database has secrets sealed with %d key(s): "+
				"bring the keyset back, or name it with --keyset-file", path, len(inUse))
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
