package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// shared is the engine of a database that others write to.
func sharedEngine(db *DB) *postgresEngine { return db.engine.(*postgresEngine) }

// sql runs a statement as somebody else.
func sqlIn(t testing.TB, db *DB, statement string) {
	t.Helper()
	if _, err := sharedEngine(db).pool.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// expansion is a migration of a version to come: the program before it goes on.
var expansion = goose.NewGoMigration(999, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
	for _, statement := range []string{
		`ALTER TABLE providers ADD COLUMN region TEXT NOT NULL DEFAULT ''`,
		`CREATE INDEX providers_region ON providers (region) WHERE region <> ''`,
		`ALTER TABLE events ADD COLUMN trail BYTEA`,
		`ALTER TABLE messages ADD COLUMN region TEXT`,
		`CREATE TABLE regions (name TEXT PRIMARY KEY)`,
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}}, nil)

// TestSchemasSideBySide has programs of two versions on one database: the older goes on while the newer
// expands the schema and afterwards, and is refused when it starts again.
func TestSchemasSideBySide(t *testing.T) {
	url := pgtest.Database(t)
	older := openURL(t, url, Options{})
	p := addProvider(t, older, 11)
	stop, done := make(chan struct{}), make(chan int, 1)
	go func() { done <- changeUntil(t, older, p, stop) }()
	newer := openURL(t, url, Options{more: []*goose.Migration{expansion}})
	another := addProvider(t, newer, 22)
	close(stop)
	if n := <-done; n == 0 {
		t.Error("the older program changed nothing meanwhile")
	}
	for _, db := range []*DB{older, newer, older} {
		for _, id := range []string{p.ID, another.ID} {
			got, err := db.Provider(t.Context(), p.Instance, id)
			must(t, err)
			if _, err := db.Apply(t.Context(), updated(got)); err != nil {
				t.Errorf("Apply: %v", err)
			}
		}
		acceptMail(t, db, "content")
	}
	sqlIn(t, newer, `UPDATE providers SET region = 'north'`)
	if addProvider(t, older, 33).Sequence == 0 || len(activeMails(t, older)) != 3 {
		t.Error("the older program does not add, or does not claim what was accepted")
	}
	events := 0
	for _, db := range []*DB{older, newer} {
		all, err := db.Events(t.Context(), p.Instance, "", 0, 1<<20)
		if err != nil || events > 0 && len(all) != events || all[len(all)-1].Sequence != uint64(len(all)) {
			t.Errorf("%d events (%v), the other program sees %d", len(all), err, events)
		}
		events = len(all)
	}
	if db, err := OpenPostgres(t.Context(), url, Options{}); err == nil || !strings.Contains(err.Error(), "schema version 999 and this program knows versions up to") {
		if err == nil {
			_ = db.Close()
		}
		t.Errorf("the older program starts again: %v", err)
	}
}

// activeMails claims everything, through a provider that is made active for it.
func activeMails(t *testing.T, db *DB) []outbox.ClaimedMail {
	t.Helper()
	activeProvider(t, db)
	return claimAll(t, db)
}

// changeUntil changes a provider again and again and returns how often.
func changeUntil(t *testing.T, db *DB, p emailprovider.Provider, stop <-chan struct{}) (n int) {
	for {
		select {
		case <-stop:
			return n
		default:
		}
		sequence, err := db.Apply(t.Context(), updated(p))
		if errors.Is(err, emailprovider.ErrConflict) {
			t.Error("somebody else has changed it")
			return n
		}
		if err == nil {
			p.Sequence = sequence
			n++
		} else if fault.KindOf(err) != fault.Unavailable {
			t.Error(err)
			return n
		}
	}
}

// TestManyMigrate has many programs find an empty database at once.
func TestManyMigrate(t *testing.T) {
	url := pgtest.Database(t)
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() { addProvider(t, openURL(t, url, Options{}), n) })
	}
	all.Wait()
	wantEvents(t, openURL(t, url, Options{}), 4)
}

// TestUnsafeServers: a server that may lose what it has acknowledged is refused, unless that is allowed.
func TestUnsafeServers(t *testing.T) {
	for name, c := range map[string]struct{ setting, value string }{
		"fsync":              {"fsync", "off"},
		"full pages":         {"full_page_writes", "off"},
		"asynchronous":       {"synchronous_commit", "off"},
		"only here":          {"synchronous_commit", "local"},
		"written, not ended": {"synchronous_commit", "remote_write"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := pgtest.Cluster(t, pgcluster.Options{Settings: map[string]string{c.setting: c.value}})
			if err := cluster.CreateDatabase(t.Context(), "mailkeep"); err != nil {
				t.Fatal(err)
			}
			url := cluster.URL("mailkeep")
			_, err := OpenPostgres(t.Context(), url, Options{})
			if err == nil || !strings.Contains(err.Error(), c.setting+" is "+c.value) || !strings.Contains(err.Error(), "--unsafe-durability") {
				t.Errorf("OpenPostgres: %v, want an error with the setting and the flag", err)
			}
			addProvider(t, openURL(t, url, Options{UnsafeDurability: true}), 1)
		})
	}
}

// TestURLs: an error never has the password.
func TestURLs(t *testing.T) {
	for _, url := range []string{
		"postgres://u:c4n4ry@[::1/db", "postgres://u:c4n4ry@127.0.0.1:1/db", "postgres://u:c4n4ry@127.0.0.1:99999999/db",
		"postgres://u:c4n4ry@127.0.0.1:1/db?sslmode=c4n4ry", "host=127.0.0.1 port=1 password=c4n4ry connect_timeout=x",
		"postgres://u:c4n4ry@nowhere.invalid/db", "mysql://u:c4n4ry@h/db",
	} {
		db, err := OpenPostgres(t.Context(), url, Options{})
		if err == nil {
			_ = db.Close()
			t.Errorf("%s: no error", url)
			continue
		}
		for ; err != nil; err = errors.Unwrap(err) {
			if strings.Contains(err.Error(), "c4n4ry") {
				t.Errorf("%s: %v", url, err)
			}
		}
	}
}

// TestPoisonInABatch: what the database refuses of one caller is not the others' misfortune.
func TestPoisonInABatch(t *testing.T) {
	db := openPostgres(t)
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			p := provider(n)
			if n%4 == 0 {
				p.Description = "a NUL \x00"
			}
			_, err := db.Apply(t.Context(), added(p))
			if failed := err != nil; failed != (n%4 == 0) {
				t.Errorf("provider %d: %v", n, err)
			}
		})
	}
	all.Wait()
	wantEvents(t, db, 12)
	for _, id := range []string{"\x00", "\xff", "a\x00b"} {
		if _, err := db.Provider(t.Context(), "default", id); !errors.Is(err, emailprovider.ErrNotFound) {
			t.Errorf("Provider %q: %v, want ErrNotFound", id, err)
		}
	}
}

// TestClasses: what PostgreSQL calls its failures.
func TestClasses(t *testing.T) {
	p := new(postgresEngine)
	for code, want := range map[string]class{
		"23505": uniqueViolation, "40001": collided, "40P01": collided, "25006": readOnly, "53100": full, "53300": locked,
		"57014": locked, "57P01": brokenIO, "57P03": brokenIO, "08006": brokenIO, "58030": brokenIO, "42601": otherError, "XX000": otherError,
	} {
		if got := p.class(&pgconn.PgError{Code: code}); got != want {
			t.Errorf("%s is of class %d, want %d", code, got, want)
		}
	}
}
