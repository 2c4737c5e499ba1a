package sqlstore

import (
	"path/filepath"
	"testing"

	"github.com/mailkeep/mailkeep/internal/auth"
	authtest "github.com/mailkeep/mailkeep/internal/auth/storetest"
	"github.com/mailkeep/mailkeep/internal/deprecation"
	deprecationtest "github.com/mailkeep/mailkeep/internal/deprecation/storetest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	providertest "github.com/mailkeep/mailkeep/internal/emailprovider/storetest"
)

// open returns a fresh store in a file of its own.
func open(t testing.TB, instances ...string) *DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "mailkeep.db"), Options{}, instances...)
}

func openAt(t testing.TB, path string, o Options, instances ...string) *DB {
	t.Helper()
	db, err := OpenSQLite(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	for _, id := range instances {
		if err := db.AddInstance(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// lite is the engine of a database in a file.
func lite(db *DB) *sqliteEngine { return db.engine.(*sqliteEngine) }

func TestStore(t *testing.T) {
	providertest.Run(t, func(t *testing.T, instances ...string) emailprovider.Store { return open(t, instances...) })
	providertest.RunVault(t, func(t *testing.T, instances ...string) providertest.StoreVault { return open(t, instances...) })
}

func TestTokens(t *testing.T) {
	authtest.Run(t, func(t *testing.T, instances ...string) auth.Store { return open(t, instances...) })
}

func TestUses(t *testing.T) {
	deprecationtest.Run(t, func(t *testing.T, instances ...string) deprecation.Store { return open(t, instances...) })
}
