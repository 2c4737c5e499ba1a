package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// previousEnds is in migration 14: when previous credentials are to be destroyed. In place of it there was an index,
// which each new password had to touch, and on PostgreSQL the first one of a provider, with it, all indexes of the
// row. Of each row that has a previous credential there is an end that is not later than its own; triggers see to
// it, so that nothing is noted when one previous credential follows another. Programs of the version before do without
// the index; what it was of on PostgreSQL, the column prev_kept, is still there for them.
var (
	previousEnds = []string{
		`CREATE TABLE previous_ends (until BIGINT NOT NULL, instance TEXT NOT NULL, id TEXT NOT NULL)`,
		`CREATE INDEX previous_ends_until ON previous_ends (until)`,
		`INSERT INTO previous_ends SELECT prev_until, instance, id FROM providers WHERE prev_until IS NOT NULL`,
		`DROP INDEX providers_previous`,
	}
	noteEndsSQLite = slices.Concat(previousEnds, []string{
		`CREATE TRIGGER previous_ends_added AFTER INSERT ON providers WHEN ` + firstEnd + ` BEGIN ` + noteEnd + ` END`,
		`CREATE TRIGGER previous_ends_set AFTER UPDATE OF prev_until ON providers WHEN ` + earlierEnd + ` BEGIN ` + noteEnd + ` END`,
	})
	noteEndsPostgres = slices.Concat([]string{`LOCK TABLE providers IN ACCESS EXCLUSIVE MODE`}, previousEnds, []string{
		`CREATE FUNCTION note_previous_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + noteEnd + ` RETURN NULL; END $$`,
		`CREATE TRIGGER previous_ends_added AFTER INSERT ON providers FOR EACH ROW WHEN (` + firstEnd + `) EXECUTE FUNCTION note_previous_end()`,
		`CREATE TRIGGER previous_ends_set AFTER UPDATE OF prev_until ON providers FOR EACH ROW WHEN (` + earlierEnd + `) EXECUTE FUNCTION note_previous_end()`,
	})
)

const (
	firstEnd   = `NEW.prev_until IS NOT NULL`
	earlierEnd = firstEnd + ` AND (OLD.prev_until IS NULL OR NEW.prev_until < OLD.prev_until)`
	noteEnd    = `INSERT INTO previous_ends VALUES (NEW.prev_until, NEW.instance, NEW.id);`
)

const (
	takeEnds = `DELETE FROM previous_ends WHERE (until, instance, id) IN (
			SELECT until, instance, id FROM previous_ends WHERE until <= $1 ORDER BY until LIMIT $2)
		RETURNING instance, id`

	destroyPrevious = `UPDATE providers SET prev_version = NULL, prev_key_id = NULL,
			prev_ciphertext = NULL, prev_user = NULL, prev_set_at = NULL, prev_set_by = NULL, prev_until = NULL
		WHERE instance = $1 AND id = $2 AND prev_until <= $3`

	// noteLater is for a credential that has replaced the one whose end was taken.
	noteLater = `INSERT INTO previous_ends SELECT prev_until, instance, id FROM providers WHERE instance = $1 AND id = $2 AND prev_until > $3`
)

// mostEnding is how many ends are taken in a transaction.
const mostEnding = 1000

// DestroyPrevious implements emailprovider.Store.
func (db *DB) DestroyPrevious(ctx context.Context, now time.Time) (destroyed int, err error) {
	for more := true; more && err == nil; {
		var some int64
		err = db.writeProviders(ctx, func(l *line) (err error) {
			some, more, err = destroyOverdue(l, micros(now))
			return err
		})
		if err == nil {
			destroyed += int(some)
		}
	}
	if destroyed > 0 {
		// They are gone; only the journal has them for longer if this fails.
		_ = db.engine.erase(ctx)
	}
	return destroyed, err
}

// destroyOverdue destroys some of the credentials whose time is up, and reports whether there may be more.
func destroyOverdue(l *line, now int64) (destroyed int64, more bool, err error) {
	taken := 0
	var providers []providerKey
	l.changed = true
	err = l.each(takeEnds, []any{now, mostEnding}, func(row scanner) (more bool, err error) {
		var p providerKey
		err = row.Scan(&p.instance, &p.id)
		taken, providers = taken+1, append(providers, p)
		return true, err
	})
	if err != nil {
		return 0, false, err
	}
	slices.SortFunc(providers, func(a, b providerKey) int {
		return cmp.Or(cmp.Compare(a.instance, b.instance), cmp.Compare(a.id, b.id))
	})
	providers = slices.Compact(providers)
	args := make([][]any, len(providers))
	for i, p := range providers {
		args[i] = []any{p.instance, p.id, now}
		if i > 0 && p.instance == providers[i-1].instance {
			continue
		}
		if err := hold(l, p.instance); err != nil {
			return 0, false, err
		}
	}
	touched, err := l.execAll(destroyPrevious, args)
	if err != nil {
		return 0, false, err
	}
	for _, n := range touched {
		destroyed += n
	}
	_, err = l.execAll(noteLater, args)
	return destroyed, taken == mostEnding, err
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
