package sqlstore

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// TestSettings asks the writer and more than one reader.
func TestSettings(t *testing.T) {
	db := open(t)
	for _, pool := range []*sql.DB{lite(db).writer, db.reader} {
		for range 3 {
			conn, err := pool.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range settings {
				var got string
				if err := conn.QueryRowContext(t.Context(), "PRAGMA "+s.name).Scan(&got); err != nil || got != s.reads {
					t.Errorf("%s is %q (%v), want %q", s.name, got, err, s.reads)
				}
			}
			if pool == db.reader {
				t.Cleanup(func() { _ = conn.Close() }) // Kept, so that the next one is another.
				continue
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := db.reader.ExecContext(t.Context(), "DELETE FROM instances"); err == nil {
		t.Error("a reader can write")
	}
}

func TestUnsafeSettingsAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"journal_mode": "DELETE", "synchronous": "NORMAL", "busy_timeout": "0", "foreign_keys": "OFF",
		"secure_delete": "OFF", "trusted_schema": "ON", "mmap_size": "65536",
	} {
		durability := name == "journal_mode" || name == "synchronous"
		for _, o := range []Options{
			{Settings: map[string]string{name: value}},
			{Settings: map[string]string{name: value}, UnsafeDurability: true},
		} {
			db, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"), o)
			if err == nil {
				err = db.Close()
				if !durability || !o.UnsafeDurability || err != nil {
					t.Errorf("%s=%s was taken (%+v), %v", name, value, o, err)
				}
				continue
			}
			if durability && o.UnsafeDurability {
				t.Errorf("%s=%s was refused in spite of UnsafeDurability: %v", name, value, err)
			}
			if want := "setting " + name + " reads "; !strings.Contains(err.Error(), want) {
				t.Errorf("%s=%s: %v, want an error with %q", name, value, err, want)
			}
		}
	}
}

// TestSettingNotTaken has a database that SQLite can't put into WAL mode, because it is in memory;
// SQLite says nothing about that.
func TestSettingNotTaken(t *testing.T) {
	connector := checkedConnector{sqliteConnector(t, "file::memory:?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)"), Options{}}
	_, err := connector.Connect(t.Context())
	if err == nil || !strings.Contains(err.Error(), `setting journal_mode reads "memory"`) {
		t.Errorf("Connect: %v, want an error about journal_mode", err)
	}
}

func TestFileModes(t *testing.T) {
	for _, umask := range []int{0, 0o777} {
		t.Run(fmt.Sprintf("umask %#o", umask), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a b?c#d%e.db")
			defer syscall.Umask(syscall.Umask(umask))
			openAt(t, path, Options{}, "one")
			wantPrivate(t, path)
		})
	}
	t.Run("tightened", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		openAt(t, path, Options{}, "one")
		wantPrivate(t, path)
	})
}

func wantPrivate(t *testing.T, path string) {
	t.Helper()
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %#o, want 0600", filepath.Base(name), got)
		}
	}
}

func TestMissingFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "db")
	if _, err := OpenSQLite(t.Context(), path, Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("OpenSQLite: %v, want fs.ErrNotExist with the path", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	_, err := lite(db).writer.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenSQLite(t.Context(), path, Options{})
	if err == nil || !strings.Contains(err.Error(), "schema version 999 and this program knows versions up to") {
		t.Errorf("OpenSQLite: %v, want an error with both versions", err)
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	added := addProvider(t, db, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path, Options{})
	got, err := db.Provider(t.Context(), added.Instance, added.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(added, got); diff != "" {
		t.Errorf("after reopening (-want +got):\n%s", diff)
	}
	if next := addProvider(t, db, 2); next.Sequence != added.Sequence+1 {
		t.Errorf("the next sequence is %d, want %d", next.Sequence, added.Sequence+1)
	}
}

// TestOneActive shows that the database itself refuses a second active provider.
func TestOneActive(t *testing.T) {
	db := open(t)
	addProvider(t, db, 1)
	addProvider(t, db, 2)
	_, err := lite(db).writer.ExecContext(t.Context(), "UPDATE providers SET active = TRUE")
	if got := lite(db).class(err); got != uniqueViolation {
		t.Errorf("two active providers: %v (class %d), want a violation", err, got)
	}
}

func TestUnknownInstance(t *testing.T) {
	db := open(t, "one")
	p := provider(1)
	p.Instance = "none"
	if _, err := db.Apply(t.Context(), added(p)); err == nil || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("Apply in an unknown instance: %v, want an error with its name", err)
	}
	page, err := db.List(t.Context(), "none", emailprovider.Query{Limit: 1})
	if err != nil || page.Total != 0 || page.Sequence != 0 {
		t.Errorf("List of an unknown instance: %+v, %v", page, err)
	}
}

// provider returns a new provider of the default instance.
func provider(n int) emailprovider.Provider {
	return emailprovider.Provider{
		Instance: "default",
		ID:       fmt.Sprintf("%018d", n),
		SMTP: &emailprovider.SMTP{
			SenderAddress: "noreply@example.com", SenderName: "Example", Host: "smtp.example.com:587",
			TLS: true, User: "mailer@example.com", Auth: emailprovider.AuthPlain,
		},
		Credential: emailprovider.Credential{
			Version: 1, Sealed: emailprovider.Sealed{KeyID: 7, Ciphertext: make([]byte, 60)}, SetBy: "terraform",
		},
		Created: fromMicros(int64(n)),
		Changed: fromMicros(int64(n)),
	}
}

// TestDestroyedSecretsAreErased looks for ciphertexts in every file.
func TestDestroyedSecretsAreErased(t *testing.T) {
	for name, c := range map[string]struct {
		destroy func(db *DB, p emailprovider.Provider) error
		erased  []string
	}{
		"removal": {
			func(db *DB, p emailprovider.Provider) error {
				removal := updated(p)
				removal.Event.Type, removal.Put = emailprovider.EventRemoved, nil
				_, err := db.Apply(t.Context(), removal)
				return err
			}, []string{"c1ph3rt3xt", "pr3v10u5"},
		},
		"end of the previous one": {
			func(db *DB, p emailprovider.Provider) error {
				_, err := db.DestroyPrevious(t.Context(), p.Previous.Until)
				return err
			}, []string{"pr3v10u5"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			db := openAt(t, path, Options{})
			p := provider(1)
			p.Credential.Sealed = emailprovider.Sealed{KeyID: 7, Ciphertext: []byte("c1ph3rt3xt")}
			p.Previous = emailprovider.Previous{
				Credential: emailprovider.Credential{Version: 1, Sealed: emailprovider.Sealed{KeyID: 7, Ciphertext: []byte("pr3v10u5")}},
				Until:      fromMicros(1),
			}
			var err error
			if p.Sequence, err = db.Apply(t.Context(), added(p)); err != nil {
				t.Fatal(err)
			}
			for _, secret := range c.erased {
				if len(holding(t, path, secret)) == 0 {
					t.Fatalf("%s can't be found while it is stored", secret)
				}
			}
			if err := c.destroy(db, p); err != nil {
				t.Fatal(err)
			}
			for _, secret := range c.erased {
				if files := holding(t, path, secret); len(files) > 0 {
					t.Errorf("%s is still in %v", secret, files)
				}
			}
		})
	}
}

// holding returns which of the database's files hold the bytes.
func holding(t *testing.T, path, secret string) (files []string) {
	t.Helper()
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if content, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		} else if bytes.Contains(content, []byte(secret)) {
			files = append(files, name)
		}
	}
	return files
}

func added(p emailprovider.Provider) emailprovider.Change {
	return emailprovider.Change{
		Event: emailprovider.Event{Instance: p.Instance, Type: emailprovider.EventAdded, ProviderID: p.ID},
		Put:   &p,
	}
}

func updated(p emailprovider.Provider) emailprovider.Change {
	return emailprovider.Change{
		Event: emailprovider.Event{
			Instance: p.Instance, Type: emailprovider.EventPasswordChanged, ProviderID: p.ID,
			Fields: []string{"password"}, By: emailprovider.Actor{Name: "terraform", Protocol: "rest"},
		},
		Expect: p.Sequence, ExpectKey: p.Credential.Sealed.KeyID,
		Put: &p,
	}
}

func addProvider(t testing.TB, db *DB, n int) emailprovider.Provider {
	t.Helper()
	p := provider(n)
	sequence, err := db.Apply(t.Context(), added(p))
	if err != nil {
		t.Fatal(err)
	}
	p.Sequence = sequence
	return p
}
