package sqlstore

import (
	"errors"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// following looks for changes over and over.
type following struct {
	t    *testing.T
	db   *DB
	mark outbox.Mark
}

func (f *following) look() (ids []string) {
	f.t.Helper()
	changed, now, err := f.db.Others().Changes(f.t.Context(), []string{"default"}, f.mark, 100)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mark = now
	for _, m := range changed {
		ids = append(ids, m.ID)
	}
	return ids
}

// TestChangesOutOfOrder has a transaction that begins first and ends last: what it has changed is seen then,
// once, and so is what others have changed meanwhile.
func TestChangesOutOfOrder(t *testing.T) {
	f := &following{t: t, db: openPostgres(t)}
	slow, quick := acceptMail(t, f.db, "content"), acceptMail(t, f.db, "content")
	f.look()
	tx, err := f.db.engine.(*postgresEngine).pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), forPostgres(updateDue), "default", slow.ID, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.Cancel(t.Context(), "default", quick.ID, start, false); err != nil {
		t.Fatal(err)
	}
	want := func(what string, got []string, want ...string) {
		t.Helper()
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	want("while it is under way", f.look(), quick.ID)
	want("once more", f.look())
	// Who only remembers how far it has come.
	forgetful := *f
	at := strings.LastIndex(string(f.mark), ":")
	forgetful.mark = f.mark[:at+1]
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("after it", f.look(), slow.ID)
	want("and then", f.look())
	if missed := forgetful.look(); len(missed) != 0 {
		t.Errorf("without the transactions under way: %q; the test would not notice that they are forgotten", missed)
	}
}

// TestChangesOfAnotherCluster has rows that were restored from a dump: of the transactions that they name
// nothing is known here.
func TestChangesOfAnotherCluster(t *testing.T) {
	f := &following{t: t, db: openPostgres(t)}
	acceptMail(t, f.db, "content")
	f.look()
	if _, err := f.db.reader.ExecContext(t.Context(), `UPDATE messages SET changed_in = txid_current() + 1`); err != nil {
		t.Fatal(err)
	}
	for range 3 { // for each look, the number of another transaction
		if ids := f.look(); len(ids) > 0 {
			t.Errorf("a row of another cluster is taken for a change: %q", ids)
		}
		acceptMail(t, f.db, "content")
		if ids := f.look(); len(ids) != 1 {
			t.Errorf("a new mail: %q", ids)
		}
	}
}

// TestChangesOfAnotherServer has a mark from before a failover.
func TestChangesOfAnotherServer(t *testing.T) {
	f := &following{t: t, db: openPostgres(t)}
	f.look()
	_, snapshot, _ := strings.Cut(string(f.mark), "|")
	_, now, err := f.db.Others().Changes(t.Context(), []string{"default"}, outbox.Mark("another|"+snapshot), 100)
	if !errors.Is(err, outbox.ErrMark) {
		t.Errorf("a mark of another server: %v, want ErrMark", err)
	}
	f.mark = now
	f.look()
	for _, mark := range []outbox.Mark{"nonsense", "a|1:x:", "a|1:2:x"} {
		if _, _, err := f.db.Others().Changes(t.Context(), nil, mark, 100); err == nil {
			t.Errorf("%q was taken for a mark", mark)
		}
	}
}
