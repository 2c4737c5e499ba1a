package sqlstore

import (
	"context"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const destroyPrevious = `UPDATE providers SET prev_version = NULL, prev_key_id = NULL,
		prev_ciphertext = NULL, prev_user = NULL, prev_set_at = NULL, prev_set_by = NULL, prev_until = NULL
	WHERE prev_until <= $1`

// DestroyPrevious implements emailprovider.Store.
func (db *DB) DestroyPrevious(ctx context.Context, now time.Time) (int, error) {
	var destroyed int64
	err := db.writeProviders(ctx, func(l *line) (err error) {
		destroyed, err = l.exec(destroyPrevious, micros(now))
		return err
	})
	if err != nil {
		return 0, err
	}
	if destroyed > 0 {
		// They are gone; only the journal has them for longer if this fails.
		_ = db.dialect.erase(ctx, db.writer)
	}
	return int(destroyed), nil
}

// previousRow is the part of a row of providers that is NULL when no credential is kept.
type previousRow struct {
	version    uint64
	keyID      uint32
	ciphertext []byte
	user       string
	setAt      int64
	setBy      string
	until      int64
}

func newPreviousRow(p emailprovider.Previous) previousRow {
	if !p.Stored() {
		return previousRow{}
	}
	return previousRow{
		version: p.Version, keyID: p.Sealed.KeyID, ciphertext: p.Sealed.Ciphertext, user: p.User,
		setAt: micros(p.SetAt), setBy: p.SetBy, until: micros(p.Until),
	}
}

func (r *previousRow) previous() emailprovider.Previous {
	return emailprovider.Previous{
		Credential: emailprovider.Credential{
			Version: r.version,
			Sealed:  emailprovider.Sealed{KeyID: r.keyID, Ciphertext: r.ciphertext},
			SetAt:   fromMicros(r.setAt),
			SetBy:   r.setBy,
		},
		User:  r.user,
		Until: fromMicros(r.until),
	}
}

// columns appends what is stored.
func (r *previousRow) columns(args []any) []any {
	if len(r.ciphertext) == 0 {
		return append(args, nil, nil, nil, nil, nil, nil, nil)
	}
	return append(args, r.version, r.keyID, r.ciphertext, r.user, r.setAt, r.setBy, r.until)
}
