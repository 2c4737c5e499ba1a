package sqlstore

import (
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// TestEraseBesideAReader removes a provider while another process reads, as a backup does: that must
// hold nobody up, and the secret must be gone soon after the reader is.
func TestEraseBesideAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	lite(db).eraser.again = time.Millisecond
	p := provider(1)
	p.Credential.Sealed = emailprovider.Sealed{KeyID: 7, Ciphertext: []byte("c1ph3rt3xt")}
	var err error
	if p.Sequence, err = db.Apply(t.Context(), added(p)); err != nil {
		t.Fatal(err)
	}
	endReading := otherReader(t, path)
	removal := updated(p)
	removal.Event.Type, removal.Put = emailprovider.EventRemoved, nil
	begun := time.Now()
	if _, err := db.Apply(t.Context(), removal); err != nil {
		t.Fatal(err)
	}
	addProvider(t, db, 2)
	if held := time.Since(begun); held > 2*time.Second {
		t.Errorf("a removal and the next change took %s", held)
	}
	if len(holding(t, path, "c1ph3rt3xt")) == 0 {
		t.Fatal("the reader did not keep the secret in the log")
	}
	endReading()
	for deadline := time.Now().Add(10 * time.Second); len(holding(t, path, "c1ph3rt3xt")) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the secret is still in %v", holding(t, path, "c1ph3rt3xt"))
		}
	}
}

// otherReader reads the database, as another process would, until it is told to end.
func otherReader(t *testing.T, path string) (end func()) {
	t.Helper()
	other, err := openPool(path, Options{}, url.Values{"_query_only": {"1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM providers").Scan(&n); err != nil || n == 0 {
		t.Fatalf("%d providers, %v", n, err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}
