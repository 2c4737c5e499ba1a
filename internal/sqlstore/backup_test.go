package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/backup"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

func quiet(int64, int64) {}

// copyOf copies a database and looks at the copy.
func copyOf(t *testing.T, path string) (to string, c backup.Contents) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "copy")
	if err := BackUpSQLite(t.Context(), path, to, quiet); err != nil {
		t.Fatal(err)
	}
	c, err := InspectSQLite(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	return to, c
}

func mustAccept(t *testing.T, db *DB, id string, keyID uint32) {
	t.Helper()
	m := outbox.Message{
		Instance: "default", ID: id, Created: fromMicros(1), Due: fromMicros(1), Expires: fromMicros(1 << 60),
		Recipients: []outbox.Recipient{{Address: "r@example.com", Kind: outbox.To, State: outbox.Pending}},
	}
	if _, err := db.Accept(t.Context(), m, outbox.Sealed{KeyID: keyID, Ciphertext: []byte("c0nt3nt-" + id)}); err != nil {
		t.Fatal(err)
	}
}

func TestBackup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%e.db")
	db := openAt(t, path, Options{}, "other")
	p := provider(1)
	p.Previous = emailprovider.Previous{
		Credential: emailprovider.Credential{Version: 1, Sealed: emailprovider.Sealed{KeyID: 8, Ciphertext: []byte("x")}},
	}
	if _, err := db.Apply(t.Context(), added(p)); err != nil {
		t.Fatal(err)
	}
	addProvider(t, db, 2)
	mustAccept(t, db, "1", 9)
	mustAccept(t, db, "2", 9)
	if _, err := db.Cancel(t.Context(), "default", "2", fromMicros(2), false); err != nil {
		t.Fatal(err)
	}
	to, got := copyOf(t, path)
	known, err := knownSchema()
	if err != nil {
		t.Fatal(err)
	}
	want := backup.Contents{
		Schema: known, Sequences: map[string]uint64{"default": 2, "other": 0}, Providers: 2, Mails: 2, Open: 1, Keys: []uint32{7, 8, 9},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the copy holds (-want +got):\n%s", diff)
	}
	// It needs no file beside it, and is a database of ours.
	copied := openAt(t, to, Options{})
	if err := consistent(t, copied, 2); err != nil {
		t.Error(err)
	}
}

// consistent reports what is wrong with a database that was promised to have so many changes.
func consistent(t *testing.T, db *DB, promised uint64) error {
	t.Helper()
	page, err := db.List(t.Context(), "default", emailprovider.Query{Limit: 1 << 20})
	if err != nil {
		return err
	}
	events, err := db.Events(t.Context(), "default", "", 0, 1<<20)
	if err != nil {
		return err
	}
	if page.Sequence < promised {
		return fmt.Errorf("%d changes, %d were promised", page.Sequence, promised)
	}
	latest := map[string]uint64{}
	for i, e := range events {
		if e.Sequence != uint64(i+1) {
			return fmt.Errorf("event %d has sequence %d", i+1, e.Sequence)
		}
		latest[e.ProviderID] = e.Sequence
	}
	if got := uint64(len(events)); got != page.Sequence {
		return fmt.Errorf("%d events at sequence %d", got, page.Sequence)
	}
	for _, p := range page.Providers {
		if p.Sequence != latest[p.ID] {
			return fmt.Errorf("provider %s is at sequence %d, its last event at %d", p.ID, p.Sequence, latest[p.ID])
		}
		delete(latest, p.ID)
	}
	if len(latest) > 0 {
		return fmt.Errorf("%d providers have events and are not there", len(latest))
	}
	return nil
}

// TestBackupOfAKilledProcess has a log that nobody has moved into the database. The red control is the
// database's file alone.
func TestBackupOfAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	promised := killAfter(t, path, 30)
	plain := filepath.Join(t.TempDir(), "plain")
	copyFile(t, path, plain)
	to, c := copyOf(t, path)
	if c.Sequences["default"] < promised {
		t.Errorf("the copy is at sequence %d, %d were promised", c.Sequences["default"], promised)
	}
	if err := consistent(t, openAt(t, to, Options{}), promised); err != nil {
		t.Error(err)
	}
	if broken(t, plain, promised) == nil {
		t.Error("red control: nothing is wrong with a copy without the log")
	}
}

// broken is consistent for what may be no database at all.
func broken(t *testing.T, path string, promised uint64) error {
	t.Helper()
	if _, err := InspectSQLite(t.Context(), path); err != nil {
		return err
	}
	return consistent(t, openAt(t, path, Options{}), promised)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, in.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestBackupHasNoRemains replaces and removes secrets and looks for their ciphertexts. The red control is
// a copy of the files as they are, in which the log has them.
func TestBackupHasNoRemains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	var gone, kept []string
	for n := range 40 {
		p := provider(n + 1)
		for version := range 5 {
			secret := fmt.Sprintf("c1ph3r-%d-%d.", n, version)
			p.Credential = emailprovider.Credential{
				Version: uint64(version + 1), Sealed: emailprovider.Sealed{KeyID: 7, Ciphertext: []byte(strings.Repeat(secret, 20+version))},
			}
			change := updated(p)
			if version == 0 {
				change = added(p)
			}
			var err error
			if p.Sequence, err = db.Apply(t.Context(), change); err != nil {
				t.Fatal(err)
			}
			if version < 4 {
				gone = append(gone, secret)
			} else {
				kept = append(kept, secret)
			}
		}
		id := fmt.Sprint(n)
		mustAccept(t, db, id, 7)
		if _, err := db.Cancel(t.Context(), "default", id, fromMicros(2), false); err != nil {
			t.Fatal(err)
		}
		gone = append(gone, "c0nt3nt-"+id)
	}
	to, _ := copyOf(t, path)
	count := func(files []string, secrets []string) (n int) {
		var all strings.Builder
		for _, f := range files {
			content, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(content)
		}
		for _, s := range secrets {
			if strings.Contains(all.String(), s) {
				n++
			}
		}
		return n
	}
	remains, present := count([]string{to}, gone), count([]string{to}, kept)
	control := count([]string{path, path + "-wal"}, gone)
	t.Logf("REL backup_remains gone=%d remains=%d present=%d control=%d", len(gone), remains, present, control)
	if remains > 0 || present != len(kept) || control == 0 {
		t.Error("the copy must have the present secrets and no others, and the files of the database others too")
	}
}

func TestInspectRefuses(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "db")
	db := openAt(t, whole, Options{})
	for n := range 200 {
		addProvider(t, db, n)
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  string
	}{
		"text":    {func(t *testing.T, path string) { overwrite(t, path, 0, strings.Repeat("text ", 2000)) }, "is not a database of Mailkeep"},
		"foreign": {inSQL(`DROP TABLE goose_db_version`), "is not a database of Mailkeep"},
		"newer":   {inSQL(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`), "schema version 999 and this program knows versions up to"},
		"older":   {inSQL(`DELETE FROM goose_db_version WHERE version_id > 5`), "from before there were backups"},
		"moved":   {inSQL(`INSERT INTO copies (role, table_name, copy_id, position, finished) VALUES ('source', '', 'x', 0, 0)`), "was copied to PostgreSQL"},
		"damaged": {func(t *testing.T, path string) { overwrite(t, path, 5*8192, strings.Repeat("\xff", 8192)) }, "is damaged"},
		"cut off": {func(t *testing.T, path string) {
			if err := os.Truncate(path, 5*8192); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := copyOf(t, whole)
			c.spoil(t, path)
			if _, err := InspectSQLite(t.Context(), path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func inSQL(query string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		db := sql.OpenDB(sqliteConnector(t, "file:"+path))
		run(t, db, query)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func overwrite(t *testing.T, path string, at int64, with string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(with), at)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestBackupRefuses(t *testing.T) {
	dir := t.TempDir()
	path, text := filepath.Join(dir, "db"), filepath.Join(dir, "text")
	openAt(t, path, Options{})
	if err := os.WriteFile(text, []byte(strings.Repeat("text ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	to, _ := copyOf(t, path)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := BackUpSQLite(ended, path, filepath.Join(dir, "other"), quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
	if err := BackUpSQLite(t.Context(), text, filepath.Join(dir, "other"), quiet); err == nil || !strings.Contains(err.Error(), "is not a database") {
		t.Errorf("of a text: %v", err)
	}
	if err := BackUpSQLite(t.Context(), path, to, quiet); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("over something: %v", err)
	}
}

func TestCancelOpen(t *testing.T) {
	db := open(t)
	const all = cancelBatch + 2
	for n := range all {
		mustAccept(t, db, fmt.Sprint(n), 7)
	}
	if _, err := db.Cancel(t.Context(), "default", "0", fromMicros(2), true); err != nil {
		t.Fatal(err)
	}
	n, err := db.CancelOpen(t.Context(), fromMicros(3), "because")
	if err != nil || n != all-1 {
		t.Errorf("CancelOpen: %d, %v; want %d", n, err, all-1)
	}
	for id, want := range map[string]string{"0": "", "1": "because", fmt.Sprint(all - 1): "because"} {
		m, err := db.Message(t.Context(), "default", id)
		if err != nil || m.State != outbox.Cancelled || m.Reason != want {
			t.Errorf("mail %s is %s (%s), %v", id, m.State, m.Reason, err)
		}
		_, err = db.Content(t.Context(), "default", id)
		if kept := err == nil; kept != (id == "0") || err != nil && !errors.Is(err, outbox.ErrNotFound) {
			t.Errorf("content of mail %s: %v", id, err)
		}
	}
}
