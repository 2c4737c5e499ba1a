package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// addProviders adds providers to a database, whose descriptions say which database it is.
func addProviders(t *testing.T, db *sqlstore.DB, which string, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		id := fmt.Sprintf("%018d", n)
		_, err := db.Apply(t.Context(), emailprovider.Change{
			Event: emailprovider.Event{Instance: instance.Default, Type: emailprovider.EventAdded, ProviderID: id},
			Put: &emailprovider.Provider{
				Instance: instance.Default, ID: id, Description: which, HTTP: &emailprovider.HTTP{Endpoint: "https://example.com"},
				Credential: emailprovider.Credential{Version: 1, Sealed: emailprovider.Sealed{KeyID: 1, Ciphertext: []byte(which)}},
				Created:    restoreTime, Changed: restoreTime,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// whole is how many providers each of the databases has.
const whole = 40

// which says which database is at a path: "old", "new", or what is wrong with it.
func which(ctx context.Context, path string) string {
	if _, err := os.Stat(path); err != nil {
		return err.Error()
	}
	db, err := sqlstore.OpenSQLite(ctx, path, sqlstore.Options{})
	if err != nil {
		return err.Error()
	}
	page, err := db.List(ctx, instance.Default, emailprovider.Query{Limit: 2 * whole})
	if err = errors.Join(err, db.Close()); err != nil {
		return err.Error()
	}
	names := map[string]int{}
	for _, p := range page.Providers {
		names[p.Description]++
	}
	for name, n := range names {
		if len(names) == 1 && n == whole {
			return name
		}
	}
	return fmt.Sprintf("a mixture: %v", names)
}

// files are the old database, of which a killed process has left half in the log, and the new one.
type files struct{ old, wal, shm, new []byte }

func makeFiles(t *testing.T) (f files) {
	t.Helper()
	read := func(path string) []byte {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	openDB := func(path string) *sqlstore.DB {
		db, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	path := filepath.Join(t.TempDir(), "old")
	db := openDB(path)
	addProviders(t, db, "old", 0, whole/2)
	if err := db.Close(); err != nil { // which moves the log into the database
		t.Fatal(err)
	}
	db = openDB(path)
	addProviders(t, db, "old", whole/2, whole)
	f.old, f.wal, f.shm = read(path), read(path+"-wal"), read(path+"-shm")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "new")
	db = openDB(path)
	addProviders(t, db, "new", 0, whole)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f.new = read(path)
	return f
}

// folder makes a data folder with the old database, and the new one under a name that is not yet one.
func (f files) folder(t *testing.T) *datadir.Dir {
	t.Helper()
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	for name, content := range map[string][]byte{
		databaseFile: f.old, databaseFile + "-wal": f.wal, databaseFile + "-shm": f.shm, restoreFile: f.new,
	} {
		if err := os.WriteFile(dir.Path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var restoreTime = time.Date(2027, 1, 31, 9, 0, 0, 0, time.UTC)

// TestReplaceStopsAnywhere stops after each step of a replacement, as a crash does. The next to have the
// folder must find the old database or the new one, whole, and the old one must be kept.
func TestReplaceStopsAnywhere(t *testing.T) {
	f := makeFiles(t)
	const stamp = "20270131T090000Z"
	steps := append([]move{{restoreFile, restoredPrefix + stamp}}, moves(stamp)...)
	for stop := range len(steps) + 1 {
		dir := f.folder(t)
		for _, m := range steps[:stop] {
			if err := dir.Rename(m.from, m.to); err != nil {
				t.Fatal(err)
			}
		}
		if err := dir.Close(); err != nil {
			t.Fatal(err)
		}
		checkReplaced(t, dir.Path(""), stop)
	}
	t.Logf("REL restore_steps stops=%d", len(steps)+1)
}

// TestReplaceIsMeasured sees that the test above would notice simpler ways.
func TestReplaceIsMeasured(t *testing.T) {
	f := makeFiles(t)
	for name, c := range map[string]struct {
		steps []move
		want  string
	}{
		"over it":        {[]move{{restoreFile, databaseFile}}, "new"},
		"its log after":  {[]move{{databaseFile, "aside"}, {restoreFile, databaseFile}}, "new"},
		"its log before": {[]move{{databaseFile + "-wal", "aside-wal"}}, "old"},
	} {
		dir := f.folder(t)
		for _, m := range c.steps {
			if err := os.Rename(dir.Path(m.from), dir.Path(m.to)); err != nil {
				t.Fatal(err)
			}
		}
		if got := which(t.Context(), dir.Path(databaseFile)); got == c.want {
			t.Errorf("%s: the database is %s, as if nothing were wrong with that", name, got)
		}
	}
}

// checkReplaced finishes what was stopped after so many steps.
func checkReplaced(t *testing.T, path string, stop int) {
	t.Helper()
	dir, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	_, replaced, err := finishRestore(dir)
	if err != nil {
		t.Errorf("after %d steps: %v", stop, err)
	}
	want, wantReplaced := "new", "old"
	if stop == 0 {
		want = "old"
	}
	if got := which(t.Context(), dir.Path(databaseFile)); got != want {
		t.Errorf("after %d steps the database is %s, want %s", stop, got, want)
	}
	if stop == 0 || stop == len(moves(""))+1 {
		return // nothing was left to do
	}
	if got := which(t.Context(), replaced); got != wantReplaced {
		t.Errorf("after %d steps %q is %s, want %s", stop, replaced, got, wantReplaced)
	}
}

// TestReplaceKeepsAll replaces again and again at the same time: what was there is never overwritten.
func TestReplaceKeepsAll(t *testing.T) {
	f := makeFiles(t)
	dir := f.folder(t)
	var kept []string
	for range 3 {
		if err := os.WriteFile(dir.Path(restoreFile), f.new, 0o600); err != nil {
			t.Fatal(err)
		}
		replaced, err := replaceDatabase(dir, restoreFile, restoreTime)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, filepath.Base(replaced))
	}
	const name = "mailkeep.db.replaced-20270131T090000Z"
	if got, want := strings.Join(kept, " "), name+" "+name+"-2 "+name+"-3"; got != want {
		t.Errorf("kept as %s, want %s", got, want)
	}
	for i, want := range []string{"old", "new", "new"} {
		if got := which(t.Context(), dir.Path(kept[i])); got != want {
			t.Errorf("%s is %s, want %s", kept[i], got, want)
		}
	}
	// Something in the way is not overwritten either: it stops the rest.
	err := errors.Join(
		os.WriteFile(dir.Path(restoredPrefix+"x"), f.new, 0o600), os.WriteFile(dir.Path(replacedPrefix+"x"), []byte("precious"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := finishRestore(dir); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), replacedPrefix+"x") {
		t.Errorf("with something in the way: %v", err)
	}
	if content, err := os.ReadFile(dir.Path(replacedPrefix + "x")); err != nil || string(content) != "precious" {
		t.Errorf("it is now %q, %v", content, err)
	}
}
