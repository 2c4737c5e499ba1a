package sqlstore

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	// One step in the index for each key, however many providers it has sealed.
	selectKeysInUse = `WITH RECURSIVE used (id) AS (
			SELECT min(key_id) FROM providers WHERE key_id IS NOT NULL
			UNION ALL
			SELECT (SELECT min(key_id) FROM providers WHERE key_id > used.id) FROM used
			WHERE used.id IS NOT NULL
		)
		SELECT id FROM used WHERE id IS NOT NULL ORDER BY id`

	selectSealedBy = `SELECT instance AS i0,` + providerColumns + `
		FROM providers WHERE key_id = $1 AND (instance, id) > ($2, $3) ORDER BY instance, id LIMIT $4`

	updateSealed = `UPDATE providers SET key_id = $3, ciphertext = $4
		WHERE instance = $1 AND id = $2 AND key_id = $5 AND ciphertext = $6`
)

// KeysInUse implements emailprovider.Vault. Like the rest of it, this is about present credentials:
// older keys stay in the keyset, so that a previous one opens until it is destroyed.
func (db *DB) KeysInUse(ctx context.Context) ([]uint32, error) {
	return all(ctx, db, func(row scanner) (id uint32, err error) { return id, row.Scan(&id) }, selectKeysInUse)
}

// SealedBy implements emailprovider.Vault.
func (db *DB) SealedBy(ctx context.Context, keyID uint32, afterInstance, afterID string, limit int) ([]emailprovider.Provider, error) {
	return all(ctx, db, func(row scanner) (emailprovider.Provider, error) {
		var instance string
		return scanProvider(row, &instance, &instance)
	}, selectSealedBy, keyID, afterInstance, afterID, limit)
}

// Reseal implements emailprovider.Vault.
func (db *DB) Reseal(ctx context.Context, p emailprovider.Provider, sealed emailprovider.Sealed) error {
	old := p.Credential.Sealed
	defer db.seen.drop(providerKey{instance: p.Instance, id: p.ID})
	return db.writeProviders(ctx, func(l *line) error {
		if err := hold(l, p.Instance); err != nil {
			return err
		}
		return l.execOne(emailprovider.ErrConflict, updateSealed,
			p.Instance, p.ID, sealed.KeyID, sealed.Ciphertext, old.KeyID, old.Ciphertext)
	})
}
