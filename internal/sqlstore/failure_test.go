package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/disktest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
)

func sqliteConnector(t *testing.T, dsn string) driver.Connector {
	t.Helper()
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func run(t testing.TB, on interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string) {
	t.Helper()
	if _, err := on.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// TestWriteFailures breaks the writer in a way that a machine can, sees writes fail with the right
// kind and reads go on, repairs it, and writes again without reopening.
func TestWriteFailures(t *testing.T) {
	for _, c := range []struct {
		name          string
		broken, whole string
		want          fault.Kind
	}{
		// A page fewer than there are is as full as it gets.
		{"full", "PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823", fault.ResourceExhausted},
		{"read-only", "PRAGMA query_only = 1", "PRAGMA query_only = 0", fault.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t)
			p := addProvider(t, db, 1)
			p.Description = strings.Repeat("needs a page of its own", 1000)
			run(t, lite(db).writer, c.broken)
			for name, write := range map[string]func() error{
				"Apply":    func() error { _, err := db.Apply(t.Context(), updated(p)); return err },
				"PutToken": func() error { return db.PutToken(t.Context(), auth.Token{Instance: "default", Name: p.Description}) },
			} {
				err := write()
				if fault.KindOf(err) != c.want || !strings.Contains(err.Error(), "MAILKEEP-STORE") || errors.Unwrap(err) == nil {
					t.Errorf("%s: %v, want kind %d with its id and cause", name, err, c.want)
				}
			}
			if got, err := db.Provider(t.Context(), p.Instance, p.ID); err != nil || got.Sequence != p.Sequence {
				t.Errorf("Provider meanwhile: sequence %d, %v", got.Sequence, err)
			}
			run(t, lite(db).writer, c.whole)
			if sequence, err := db.Apply(t.Context(), updated(p)); err != nil || sequence != p.Sequence+1 {
				t.Errorf("Apply afterwards: %d, %v", sequence, err)
			}
		})
	}
}

// TestDeadDisk has the file system turn read-only under the store, as ext4 does when it finds itself
// damaged, and then the disk gone.
func TestDeadDisk(t *testing.T) {
	disk := disktest.New(t, 32)
	db, err := OpenSQLite(t.Context(), filepath.Join(disk.Path(), "db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := addProvider(t, db, 1)
	update := func(id string) {
		t.Helper()
		if _, err := db.Apply(t.Context(), updated(p)); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), id) {
			t.Errorf("Apply: %v, want Unavailable, %s", err, id)
		}
	}
	disk.Fail()
	update("MAILKEEP-STORE")
	if page, err := db.List(t.Context(), p.Instance, emailprovider.Query{Limit: 1}); err != nil || page.Sequence != p.Sequence {
		t.Errorf("List meanwhile: sequence %d, %v", page.Sequence, err)
	}
	disk.Cut()
	update("MAILKEEP-")
	// Of what was never read nothing is in memory.
	if _, err := db.Tokens(t.Context(), p.Instance); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "MAILKEEP-STORE") {
		t.Errorf("Tokens without a disk: %v, want Unavailable, MAILKEEP-STORE", err)
	}
	_ = db.Close() // which can't tidy up
	disk.Restore()
	db = openAt(t, filepath.Join(disk.Path(), "db"), Options{})
	if got, err := db.Provider(t.Context(), p.Instance, p.ID); err != nil || got.Sequence != p.Sequence {
		t.Errorf("Provider afterwards: sequence %d, %v", got.Sequence, err)
	}
}

// otherWriter locks the database as another process would.
func otherWriter(t *testing.T, db *DB, path string) (unlock func()) {
	t.Helper()
	other := sql.OpenDB(sqliteConnector(t, (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_txlock=immediate"}).String()))
	t.Cleanup(func() { _ = other.Close() })
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	p := addProvider(t, db, 1)
	unlock := otherWriter(t, db, path)

	lite(db).patience = 50 * time.Millisecond
	if _, err := db.Apply(t.Context(), updated(p)); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "busy") {
		t.Errorf("Apply while locked: %v, want Unavailable, busy", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := db.Apply(ctx, updated(p)); !errors.Is(err, context.DeadlineExceeded) || fault.KindOf(err) == fault.Unavailable {
		t.Errorf("Apply with a deadline while locked: %v, want context.DeadlineExceeded", err)
	}
	if _, err := db.Provider(t.Context(), p.Instance, p.ID); err != nil {
		t.Errorf("Provider while locked: %v", err)
	}
	unlock()
	setPatience(t, lite(db), patience)
	if sequence, err := db.Apply(t.Context(), updated(p)); err != nil || sequence != p.Sequence+1 {
		t.Errorf("Apply afterwards: %d, %v", sequence, err)
	}
}

// setPatience sets it as soon as nobody does what was given up.
func setPatience(t *testing.T, s *sqliteEngine, to time.Duration) {
	t.Helper()
	free := func() bool {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		if !s.queue.running {
			s.patience = to
		}
		return !s.queue.running
	}
	for deadline := time.Now().Add(10 * time.Second); !free(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a write that was given up does not end")
		}
	}
}

// TestQueueing has the one writer taken by somebody of this process.
func TestQueueing(t *testing.T) {
	db := open(t)
	p := addProvider(t, db, 1)
	taken, err := lite(db).writer.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lite(db).patience = time.Millisecond
	if _, err := db.Apply(t.Context(), updated(p)); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Apply behind another: %v, want Unavailable", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPatience ends a write that has begun: it is undone and says so.
func TestPatience(t *testing.T) {
	db := open(t)
	lite(db).patience = 20 * time.Millisecond
	err := db.write(t.Context(), func(l *line) error {
		if _, err := l.exec("DELETE FROM instances"); err != nil {
			return err
		}
		for { // Until the transaction is rolled back under us.
			if _, err := l.exec("SELECT 1"); err != nil {
				return err
			}
		}
	})
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("write: %v, want Unavailable", err)
	}
	setPatience(t, lite(db), patience)
	if addProvider(t, db, 1).Sequence != 1 {
		t.Error("the deletion was kept")
	}
}

func TestClosed(t *testing.T) {
	db, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Provider(t.Context(), "default", "1"); err == nil || errors.Is(err, emailprovider.ErrNotFound) {
		t.Errorf("Provider of a closed store: %v, want an error", err)
	}
	if _, err := db.Apply(t.Context(), added(provider(1))); err == nil {
		t.Error("Apply in a closed store succeeded")
	}
}

func TestTokenRefusals(t *testing.T) {
	db := open(t)
	token := auth.Token{Instance: "default", ID: "1", Hash: [32]byte{1}}
	if err := db.PutToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token auth.Token
		want  fault.Kind
	}{
		"the hash of another": {auth.Token{Instance: "default", ID: "2", Hash: [32]byte{1}}, fault.AlreadyExists},
		"a role of two words": {auth.Token{Instance: "default", ID: "2", Roles: []string{"a b"}}, fault.InvalidArgument},
		"an empty role":       {auth.Token{Instance: "default", ID: "2", Roles: []string{""}}, fault.InvalidArgument},
	} {
		if err := db.PutToken(t.Context(), c.token); fault.KindOf(err) != c.want {
			t.Errorf("%s: %v, want kind %d", name, err, c.want)
		}
	}
	tokens, err := db.Tokens(t.Context(), "default")
	if err != nil || len(tokens) != 1 {
		t.Errorf("%d tokens (%v), want 1", len(tokens), err)
	}
}

func TestInconsistentChanges(t *testing.T) {
	db := open(t)
	p := addProvider(t, db, 1)
	both, neither, other, far := p, p, p, p
	both.HTTP = &emailprovider.HTTP{}
	neither.SMTP = nil
	other.ID = "2"
	far.Instance = "elsewhere"
	for name, put := range map[string]*emailprovider.Provider{
		"SMTP and HTTP": &both, "neither SMTP nor HTTP": &neither, "another id": &other, "another instance": &far,
	} {
		c := updated(p)
		c.Put = put
		if _, err := db.Apply(t.Context(), c); err == nil {
			t.Errorf("%s was stored", name)
		}
	}
	c := updated(p)
	c.Expect, c.Put = 0, nil
	if _, err := db.Apply(t.Context(), c); err == nil {
		t.Error("a removal of whatever there is was stored")
	}
	if next := addProvider(t, db, 3); next.Sequence != p.Sequence+1 {
		t.Errorf("next sequence %d, want %d", next.Sequence, p.Sequence+1)
	}
}

func TestUnknownErrorsKeepTheirText(t *testing.T) {
	db, bug := open(t), errors.New("a bug")
	err := db.write(t.Context(), func(*line) error { return fmt.Errorf("found: %w", bug) })
	if !errors.Is(err, bug) || fault.KindOf(err) != fault.Internal {
		t.Errorf("write: %v, want the bug as it is", err)
	}
}

// TestOutcomeUnknown takes a violated constraint, which SQLite can be made to find at the commit, for an
// I/O error, which it can not.
func TestOutcomeUnknown(t *testing.T) {
	db := open(t)
	violate := func(l *line) error {
		if _, err := l.exec("PRAGMA defer_foreign_keys = 1"); err != nil {
			return err
		}
		_, err := l.exec("UPDATE events SET instance = 'none'")
		return err
	}
	addProvider(t, db, 1)
	if err := db.write(t.Context(), violate); err == nil || fault.KindOf(err) != fault.Internal {
		t.Errorf("violation at the commit: %v, want it as it is", err)
	}
	lite(db).classify = func(error) class { return brokenIO }
	if err := db.write(t.Context(), violate); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "MAILKEEP-OUTCOME") {
		t.Errorf("I/O error at the commit: %v, want Unavailable, MAILKEEP-OUTCOME", err)
	}
	lite(db).classify = sqliteClass
	addProvider(t, db, 2)
}
