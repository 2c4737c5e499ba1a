package sqlstore

import (
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// TestPasswordsTouchNoIndex: PostgreSQL writes a new password, and the one before, without an entry in any index.
func TestPasswordsTouchNoIndex(t *testing.T) {
	db := openPostgres(t)
	p := addProvider(t, db, 1)
	change := func() {
		t.Helper()
		was := p.Credential
		p.Previous = emailprovider.Previous{Credential: was, User: "user", Until: time.UnixMicro(1e15 + int64(p.Sequence))}
		p.Credential.Version++
		p.Credential.Sealed.Ciphertext = append([]byte{byte(p.Sequence)}, was.Sealed.Ciphertext[1:]...)
		sequence, err := db.Apply(t.Context(), updated(p))
		if err != nil {
			t.Fatal(err)
		}
		p.Sequence = sequence
	}
	all, before := updates(t, db, 0)
	const changes = 20
	for range changes {
		change()
	}
	if _, got := updates(t, db, all+changes); got-before != changes {
		t.Errorf("%d of %d changes touched no index", got-before, changes)
	}
	if n, err := db.DestroyPrevious(t.Context(), p.Previous.Until); n != 1 || err != nil {
		t.Errorf("%d destroyed, %v", n, err)
	}
}

// updates returns how many rows of providers were changed, at least so many as soon as the server has counted
// them, and how many of them without an entry in an index.
func updates(t *testing.T, db *DB, least int) (all, inPlace int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := db.reader.QueryRowContext(t.Context(), `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'providers'`).Scan(&all, &inPlace)
		if err != nil {
			t.Fatal(err)
		}
		if all >= least {
			return all, inPlace
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d changes are counted, want %d", all, least)
		}
	}
}
