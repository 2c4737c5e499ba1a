package sqlstore

import (
	"path/filepath"
	"testing"

	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/auth"
	authtest "github.com/mailkeep/mailkeep/internal/auth/storetest"
	"github.com/mailkeep/mailkeep/internal/deprecation"
	deprecationtest "github.com/mailkeep/mailkeep/internal/deprecation/storetest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	providertest "github.com/mailkeep/mailkeep/internal/emailprovider/storetest"
	"github.com/mailkeep/mailkeep/internal/outbox"
	outboxtest "github.com/mailkeep/mailkeep/internal/outbox/storetest"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// open returns a fresh store in a file of its own.
func open(t testing.TB, instances ...string) *DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "mailkeep.db"), Options{}, instances...)
}

func openAt(t testing.TB, path string, o Options, instances ...string) *DB {
	t.Helper()
	db, err := OpenSQLite(t.Context(), path, o)
	return opened(t, db, err, instances)
}

func opened(t testing.TB, db *DB, err error, instances []string) *DB {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if err := db.BeginChain(t.Context(), audit.New(ownKeys)); err != nil {
		t.Fatal(err)
	}
	for _, id := range instances {
		if err := db.AddInstance(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// lite is the engine of a database in a file.
func lite(db *DB) *sqliteEngine { return db.engine.(*sqliteEngine) }

// openPostgres returns a fresh store in a PostgreSQL database of its own.
func openPostgres(t testing.TB, instances ...string) *DB {
	t.Helper()
	return openURL(t, pgtest.Database(t), Options{}, instances...)
}

func openURL(t testing.TB, url string, o Options, instances ...string) *DB {
	t.Helper()
	db, err := OpenPostgres(t.Context(), url, o)
	return opened(t, db, err, instances)
}

// opener returns a fresh store that has the instances.
type opener func(t testing.TB, instances ...string) *DB

// databases are all that the contracts hold for.
var databases = map[string]opener{"SQLite": open, "PostgreSQL": openPostgres}

func onEach(t *testing.T, test func(t *testing.T, open opener)) {
	for name, open := range databases {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

func TestStore(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		providertest.Run(t, func(t *testing.T, instances ...string) emailprovider.Store { return open(t, instances...) })
		providertest.RunVault(t, func(t *testing.T, instances ...string) providertest.StoreVault { return open(t, instances...) })
	})
}

func TestTokens(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		authtest.Run(t, func(t *testing.T, instances ...string) auth.Store { return open(t, instances...) })
	})
}

// anyToken may be revoked.
func anyToken(auth.Token) error { return nil }

func TestUses(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		deprecationtest.Run(t, func(t *testing.T, instances ...string) deprecation.Store { return open(t, instances...) })
	})
}

func TestOthers(t *testing.T) {
	type shared struct {
		*DB
		outbox.Others
	}
	outboxtest.RunOthers(t, func(t *testing.T, instances ...string) outboxtest.Shared {
		db := openPostgres(t, instances...)
		return shared{db, db.Others()}
	})
	if others := open(t).Others(); others != nil {
		t.Errorf("a database of one process has others: %v", others)
	}
}

func TestOutbox(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		outboxtest.Run(t, func(t *testing.T, instances ...string) outboxtest.Store { return open(t, instances...) })
	})
}
