package sqlstore

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// What takes migration 14 back.
var (
	withoutEnds       = []string{`DROP TABLE previous_ends`, `DELETE FROM goose_db_version WHERE version_id = 14`}
	withoutEndsSQLite = slices.Concat([]string{
		`DROP TRIGGER previous_ends_added`, `DROP TRIGGER previous_ends_set`,
		`CREATE INDEX providers_previous ON providers (prev_until) WHERE prev_until IS NOT NULL`,
	}, withoutEnds)
	withoutEndsPostgres = slices.Concat([]string{
		`DROP FUNCTION note_previous_end CASCADE`, `CREATE INDEX providers_previous ON providers (instance, id) WHERE prev_kept`,
	}, withoutEnds)
)

// TestEndsOfBefore: what the version before has kept is destroyed in time.
func TestEndsOfBefore(t *testing.T) {
	path, url := filepath.Join(t.TempDir(), "db"), pgtest.Database(t)
	for name, c := range map[string]struct {
		open func() *DB
		undo []string
	}{
		"SQLite":     {func() *DB { return openAt(t, path, Options{}) }, withoutEndsSQLite},
		"PostgreSQL": {func() *DB { return openURL(t, url, Options{}) }, withoutEndsPostgres},
	} {
		t.Run(name, func(t *testing.T) {
			db := c.open()
			must(t, db.write(t.Context(), func(l *line) error {
				for _, statement := range c.undo {
					if _, err := l.exec(statement); err != nil {
						return err
					}
				}
				return nil
			}))
			p := provider(1)
			p.Previous = emailprovider.Previous{Credential: p.Credential, User: "u", Until: start}
			_, err := db.Apply(t.Context(), added(p))
			must(t, err)
			must(t, db.Close())

			db = c.open()
			if n, err := db.DestroyPrevious(t.Context(), start); n != 1 || err != nil {
				t.Errorf("%d destroyed, %v", n, err)
			}
		})
	}
}

// TestManyEnds: more than are destroyed at a time.
func TestManyEnds(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		db := open(t)
		p := provider(1)
		p.Previous = emailprovider.Previous{Credential: p.Credential, User: "u", Until: start}
		_, err := db.Apply(t.Context(), added(p))
		must(t, err)
		const many = 2*mostEnding + 1
		must(t, db.write(t.Context(), func(l *line) error {
			for n := range many {
				if _, err := l.exec(`INSERT INTO previous_ends VALUES ($1, $2, $3)`, micros(start)-int64(n), "default", p.ID); err != nil {
					return err
				}
			}
			return nil
		}))
		if n, err := db.DestroyPrevious(t.Context(), start); n != 1 || err != nil {
			t.Errorf("%d destroyed, %v", n, err)
		}
		var left int
		must(t, db.one(t.Context(), `SELECT count(*) FROM previous_ends`).Scan(&left))
		if left != 0 {
			t.Errorf("%d of %d ends are left", left, many)
		}
	})
}
