package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	selectOverdue = `SELECT instance, id FROM providers WHERE /*pg prev_kept AND */ prev_until <= $1`

	destroyPrevious = `UPDATE providers SET prev_version = NULL, prev_key_id = NULL,
			prev_ciphertext = NULL, prev_user = NULL, prev_set_at = NULL, prev_set_by = NULL, prev_until = NULL
		WHERE instance = $1 AND id = $2 AND prev_until <= $3`
)

// DestroyPrevious implements emailprovider.Store.
func (db *DB) DestroyPrevious(ctx context.Context, now time.Time) (int, error) {
	var destroyed int64
	err := db.writeProviders(ctx, func(l *line) error {
		destroyed = 0
		return destroyOverdue(l, now, &destroyed)
	})
	if err != nil {
		return 0, err
	}
	if destroyed > 0 {
		// They are gone; only the journal has them for longer if this fails.
		_ = db.engine.erase(ctx)
	}
	return int(destroyed), nil
}

func destroyOverdue(l *line, now time.Time, destroyed *int64) error {
	var overdue [][]any
	err := l.each(selectOverdue, []any{micros(now)}, func(row scanner) (more bool, err error) {
		var instance, id string
		err = row.Scan(&instance, &id)
		overdue = append(overdue, []any{instance, id, micros(now)})
		return true, err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(overdue, func(a, b []any) int { return cmp.Compare(a[0].(string), b[0].(string)) })
	for i, o := range overdue {
		if i > 0 && o[0] == overdue[i-1][0] {
			continue
		}
		if err := hold(l, o[0].(string)); err != nil {
			return err
		}
	}
	touched, err := l.execAll(destroyPrevious, overdue)
	for _, n := range touched {
		*destroyed += n
	}
	return err
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

// isPresentOf reports whether the credential is the present one of a row.
func (r *previousRow) isPresentOf(row *providerRow) bool {
	return len(r.ciphertext) > 0 && r.version == row.credentialVersion && r.keyID == row.keyID && bytes.Equal(r.ciphertext, row.ciphertext) &&
		r.user == row.user && r.setAt == row.setAt && r.setBy == row.setBy
}

// columns appends what is stored.
func (r *previousRow) columns(args []any) []any {
	if len(r.ciphertext) == 0 {
		return append(args, nil, nil, nil, nil, nil, nil, nil)
	}
	return append(args, r.version, r.keyID, r.ciphertext, r.user, r.setAt, r.setBy, r.until)
}
