package sqlstore

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	selectKeyChecks = `SELECT key_id, ciphertext FROM key_checks ORDER BY created, key_id`
	insertKeyCheck  = `INSERT INTO key_checks (key_id, ciphertext, created) VALUES ($1, $2, $3) ON CONFLICT (key_id) DO NOTHING`
)

// KeyChecks implements seal.Checks.
func (db *DB) KeyChecks(ctx context.Context) ([]emailprovider.Sealed, error) {
	return all(ctx, db, func(row scanner) (s emailprovider.Sealed, err error) {
		return s, row.Scan(&s.KeyID, &s.Ciphertext)
	}, selectKeyChecks)
}

// AddKeyCheck implements seal.Checks.
func (db *DB) AddKeyCheck(ctx context.Context, check emailprovider.Sealed) error {
	return db.write(ctx, func(l *line) error {
		_, err := l.exec(insertKeyCheck, int64(check.KeyID), check.Ciphertext, micros(db.now()))
		return err
	})
}
