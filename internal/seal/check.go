package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Checks keeps a ciphertext of each key that was ever in use. Nobody who has the database open may begin
// with a keyset that lacks one of them, or with another one of its own.
type Checks interface {
	KeyChecks(ctx context.Context) ([]emailprovider.Sealed, error)
	// AddKeyCheck keeps a ciphertext, unless there is one of its key.
	AddKeyCheck(ctx context.Context, check emailprovider.Sealed) error
}

// checked is what the ciphertexts are of, and bound to.
var checked = []byte("mailkeep key check")

// ErrOtherKeys is returned by Check when a stored ciphertext does not open.
var ErrOtherKeys = errors.New("the keyset is not the one that this database was used with")

// Check sees to it that the keyset has every key that was ever in use with the database, and that its
// primary key is among those from now on.
func (k *Keyset) Check(ctx context.Context, checks Checks) error {
	stored, err := checks.KeyChecks(ctx)
	if err != nil {
		return err
	}
	for _, c := range stored {
		if _, err := k.OpenBytes(c, checked); err != nil {
			return fmt.Errorf("%w: it has no key %d", ErrOtherKeys, c.KeyID)
		}
	}
	own, err := k.SealBytes(checked, checked)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(stored, func(c emailprovider.Sealed) bool { return c.KeyID == own.KeyID }) {
		return nil
	}
	return checks.AddKeyCheck(ctx, own)
}
