package sqlstore

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// TestSortedEvents finds the events of each provider while they are sorted from time to time, after a restart, and in
// a database of the version before.
func TestSortedEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	var providers []emailprovider.Provider
	for n := range 3 {
		providers = append(providers, addProvider(t, db, n))
	}
	change := func(changes int) {
		t.Helper()
		for i := range changes {
			p := &providers[i%7%len(providers)]
			sequence, err := db.Apply(t.Context(), updated(*p))
			must(t, err)
			p.Sequence = sequence
		}
	}
	sorted := func() (until int) {
		t.Helper()
		must(t, db.one(t.Context(), `SELECT COALESCE(max(sequence), 0) FROM sorted_until`).Scan(&until))
		return until
	}
	for _, changes := range []int{5, sortAt - 9, 1, 30, sortAt} {
		change(changes)
		if wrong := wronglyFound(t, db, providers); wrong != "" {
			t.Fatal(wrong)
		}
	}
	if until := sorted(); until != 2*sortAt {
		t.Errorf("events are sorted up to %d", until)
	}
	must(t, db.Close())

	db = openAt(t, path, Options{})
	change(sortAt)
	if wrong := wronglyFound(t, db, providers); wrong != "" || sorted() != 3*sortAt {
		t.Errorf("after a restart, sorted up to %d: %s", sorted(), wrong)
	}
	for _, statement := range append([]string{
		`DROP TABLE sorted_events`, `DROP TABLE sorted_until`, `DELETE FROM goose_db_version WHERE version_id = 13`,
		`CREATE INDEX events_of_provider ON events (instance, provider_id, sequence)`,
	}, withoutEndsSQLite...) {
		run(t, lite(db).writer, statement)
	}
	must(t, db.Close())

	db = openAt(t, path, Options{})
	if wrong := wronglyFound(t, db, providers); wrong != "" {
		t.Errorf("in a database of the version before: %s", wrong)
	}
	run(t, lite(db).writer, `DELETE FROM sorted_events`)
	if wrong := wronglyFound(t, db, providers); wrong == "" {
		t.Error("red control: events are missing, and nobody notices")
	}
	run(t, lite(db).writer, `DELETE FROM sorted_until`) // as if all had come with a copy
	if wrong := wronglyFound(t, db, providers); wrong != "" {
		t.Errorf("with none sorted: %s", wrong)
	}
	for _, what := range []string{"with all sorted at once", "with all sorted again"} {
		change(1)
		if wrong := wronglyFound(t, db, providers); wrong != "" || sorted() <= 3*sortAt {
			t.Errorf("%s, up to %d: %s", what, sorted(), wrong)
		}
		must(t, db.Close())
		db = openAt(t, path, Options{})
		run(t, lite(db).writer, `UPDATE sorted_until SET sequence = 1`)
	}
}

// wronglyFound returns what is wrong with the events of providers, or nothing: they are those among all.
func wronglyFound(t *testing.T, db *DB, providers []emailprovider.Provider) string {
	t.Helper()
	all, err := db.Events(t.Context(), "default", "", 0, 1<<20)
	must(t, err)
	for _, p := range providers {
		of := slices.DeleteFunc(slices.Clone(all), func(e emailprovider.Event) bool { return e.ProviderID != p.ID })
		for after := 0; after < len(of); after += 37 {
			for _, limit := range []int{1, 40, 1 << 20} {
				since := uint64(0)
				if after > 0 {
					since = of[after-1].Sequence
				}
				got, err := db.Events(t.Context(), "default", p.ID, since, limit)
				must(t, err)
				if diff := cmp.Diff(of[after:min(len(of), after+limit)], got); diff != "" {
					return diff[:min(len(diff), 300)]
				}
			}
		}
	}
	return ""
}

// TestSequenceFromBatch has a write change the sequence between two changes of its transaction: the second, and what
// comes later, go on from there.
func TestSequenceFromBatch(t *testing.T) { synctest.Test(t, testSequenceFromBatch) }

func testSequenceFromBatch(t *testing.T) {
	db := open(t)
	p, q := addProvider(t, db, 1), addProvider(t, db, 2)
	sequences := make([]uint64, 2)
	apply := func(i int, p emailprovider.Provider) func() error {
		return func() (err error) { sequences[i], err = db.Apply(t.Context(), updated(p)); return err }
	}
	errs := batch(t, db, nil, apply(0, p), func() error {
		return db.engine.write(t.Context(), write{of: cachedAll, do: func(l *line) error {
			_, err := l.exec(`UPDATE instances SET sequence = sequence + 5`)
			return err
		}})
	}, apply(1, q))
	if err := errors.Join(errs...); err != nil || !slices.Equal(sequences, []uint64{3, 9}) {
		t.Fatalf("sequences %v, %v", sequences, err)
	}
	q.Sequence = sequences[1]
	if sequence, err := db.Apply(t.Context(), updated(q)); err != nil || sequence != 10 {
		t.Errorf("afterwards %d, %v", sequence, err)
	}
}

// TestSequenceFromOutside has somebody else change the sequence: changes go on from there.
func TestSequenceFromOutside(t *testing.T) {
	db := open(t)
	p := addProvider(t, db, 1)
	for range 2 {
		run(t, lite(db).writer, `UPDATE instances SET sequence = sequence + 5`)
		want := p.Sequence + 6
		sequence, err := db.Apply(t.Context(), updated(p))
		if err != nil || sequence != want {
			t.Fatalf("sequence %d, %v, want %d", sequence, err, want)
		}
		p.Sequence = sequence
	}
	run(t, lite(db).writer, `UPDATE instances SET chain_head = NULL`)
	if _, err := db.Apply(t.Context(), updated(p)); err != nil {
		t.Error(err)
	}
}
