package emailprovider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// resealBatch is how many providers are loaded at once while resealing.
const resealBatch = 200

// Reseal seals every secret again that is not sealed with the current key of its instance, and returns how
// many. A secret that does not open is left as it is and named in the error, after all
// others are done. When the vault fails, the error says that the key is in use.
func Reseal(ctx context.Context, vault Vault, sealer Sealer, current func(instance string) uint32) (resealed uint64, err error) {
	keys, err := vault.KeysInUse(ctx)
	if err != nil {
		return 0, Unfinished(err)
	}
	var damaged []Provider
	for _, key := range keys {
		n, shut, err := resealKey(ctx, vault, sealer, key, current)
		resealed += n
		damaged = append(damaged, shut...)
		if err != nil {
			return resealed, Unfinished(err)
		}
	}
	if len(damaged) > 0 {
		return resealed, fault.Newf(fault.FailedPrecondition, "MAILKEEP-SEALED", "the new key is in use and %d secrets were "+
			"sealed with it, but %d can't be opened and are as they were: of provider %s", resealed, len(damaged), names(damaged))
	}
	return resealed, nil
}

// Unfinished adds to what a store says in the midst of a rotation, which is that nothing was changed.
func Unfinished(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	return fault.Newf(f.Kind, "MAILKEEP-RESEAL",
		"the new key is in use, but some secrets are still sealed with an older one; rotate again: %s", f.Text).Because(err)
}

// resealKey returns the providers whose secrets it could not open as damaged.
func resealKey(ctx context.Context, vault Vault, sealer Sealer, key uint32, current func(instance string) uint32) (resealed uint64, damaged []Provider, err error) {
	var last Provider
	for {
		batch, err := vault.SealedBy(ctx, key, last.Instance, last.ID, resealBatch)
		if err != nil || len(batch) == 0 {
			return resealed, damaged, err
		}
		for _, p := range batch {
			if current(p.Instance) == key {
				last = p
				continue
			}
			err := resealOne(ctx, vault, sealer, p)
			if errors.Is(err, ErrConflict) {
				break // changed meanwhile, perhaps by a command that had sealed with this key: load it again
			}
			last = p
			switch {
			case errors.Is(err, errSealed):
				damaged = append(damaged, p)
			case err != nil:
				return resealed, damaged, err
			default:
				resealed++
			}
		}
	}
}

func resealOne(ctx context.Context, vault Vault, sealer Sealer, p Provider) error {
	plain, err := sealer.Open(p.Credential.Sealed, p.binding())
	if fault.KindOf(err) == fault.Unavailable {
		return err
	}
	if err != nil {
		return errSealed
	}
	sealed, err := sealer.Seal(plain, p.binding())
	if err != nil {
		return err
	}
	return vault.Reseal(ctx, p, sealed)
}

// sampleSize is how many secrets of each key CheckKeys tries, and how many providers it names.
const sampleSize = 5

// CheckKeys refuses a keyset that can't open what is stored: for each key in use some secret must
// open. One damaged secret among others is that provider's trouble only.
func CheckKeys(ctx context.Context, vault Vault, sealer Sealer) error {
	keys, err := vault.KeysInUse(ctx)
	if err != nil {
		return err
	}
	var missing []error
	for _, key := range keys {
		sample, err := vault.SealedBy(ctx, key, "", "", sampleSize)
		if err != nil {
			return err
		}
		opens := func(p Provider) bool { _, err := sealer.Open(p.Credential.Sealed, p.binding()); return err == nil }
		if !slices.ContainsFunc(sample, opens) {
			missing = append(missing, fmt.Errorf("the keyset can't open what key %d sealed: the secrets of provider %s",
				key, names(sample)))
		}
	}
	return errors.Join(missing...)
}

// names names the first few of the providers.
func names(providers []Provider) string {
	var ids []string
	for _, p := range providers[:min(len(providers), sampleSize)] {
		ids = append(ids, p.ID+" (instance "+p.Instance+")")
	}
	if len(providers) >= sampleSize {
		ids = append(ids, "and possibly more")
	}
	return strings.Join(ids, ", ")
}
