package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var manifest = Manifest{
	Made: time.Date(2027, 1, 31, 9, 0, 0, 0, time.UTC),
	Contents: Contents{
		Schema: 3, Sequences: map[string]uint64{"default": 42}, Providers: 5, Mails: 120, Open: 3, Keys: []uint32{7, 4000000000},
	},
}

func quiet(int64, int64) {}

// draft begins a backup with some bytes for a database.
func draft(t *testing.T, path string, overwrite bool, database string) *Draft {
	t.Helper()
	d, err := Create(path, overwrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Database(), []byte(database), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t *testing.T, path string, overwrite bool, database string) {
	t.Helper()
	size, err := draft(t, path, overwrite, database).Finish(t.Context(), manifest, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != size || info.Mode() != 0o600 {
		t.Errorf("%v, %v; want %d bytes and mode 0600", info, err, size)
	}
}

// read returns the database in a backup.
func read(path string) (Manifest, string, error) {
	f, err := Open(path)
	if err != nil {
		return Manifest{}, "", err
	}
	var database bytes.Buffer
	err = f.Extract(context.Background(), &database, quiet)
	return f.Manifest, database.String(), errors.Join(err, f.Close())
}

// wantNames fails unless the folder holds exactly these.
func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, umask := range []int{0, 0o777} {
		dir := t.TempDir()
		path := filepath.Join(dir, "a b?c#d%e")
		defer syscall.Umask(syscall.Umask(umask))
		database := strings.Repeat("SQLite", 1<<18) // more than a chunk
		write(t, path, false, database)
		m, got, err := read(path)
		if err != nil || got != database {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if diff := cmp.Diff(manifest, m); diff != "" {
			t.Errorf("manifest (-want +got):\n%s", diff)
		}
		wantNames(t, dir, "a b?c#d%e")
	}
}

// TestDamage changes each byte, and cuts off at each.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	write(t, whole, false, "SQLite format 3\x00 and so on")
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "damaged")
	refused := func(what string, at int, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s at %d: %v, want a refusal with the path", what, at, err)
		}
	}
	for i := range content {
		refused("cut off", i, content[:i])
		for _, bit := range []byte{1, 0x20, 0x80} {
			changed := slices.Clone(content)
			changed[i] ^= bit
			refused("changed", i, changed)
		}
	}
	refused("added to", len(content), append(slices.Clone(content), '\n'))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := read(path); err != nil { // the control: as it was it is read
		t.Error(err)
	}
}

func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	for content, want := range map[string]string{
		"":     "is not a backup made by",
		"text": "is not a backup made by",
		"SQLite format 3\x00" + strings.Repeat("x", 1000):                                                "is a database, but not a whole backup",
		strings.Repeat("x", 1000) + strings.Replace(end{size: 1000}.String(), "backup 1", "backup 2", 1): "newer Mailkeep",
		end{size: 1000}.String():           "is not a backup made by",
		"{}" + end{size: 1 << 62}.String(): "is not a backup made by",
	} {
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.20q: %v, want %q and the path", content, err, want)
		}
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a folder: %v", err)
	}
}

// TestTargets tries what may be at the place of a backup already.
func TestTargets(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("backup"), false, "old")
	for name, content := range map[string]string{"precious": "p", "empty": ""} {
		if err := os.WriteFile(at(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("backup", at("link")), os.Mkdir(at("folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		overwrite bool
		want      string
	}{
		{"backup", false, "exists already"},
		{"precious", false, "exists already"},
		{"precious", true, "only a backup is replaced"},
		{"empty", true, "only a backup is replaced"},
		{"link", true, "is not a file"},
		{"folder", true, "is a folder"},
		{"folder", false, "is a folder"},
		{"none/backup", false, "no such file"},
	} {
		if _, err := Create(at(c.name), c.overwrite); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, overwrite %v: %v, want %q", c.name, c.overwrite, err, c.want)
		}
	}
	wantNames(t, dir, "backup", "empty", "folder", "link", "precious")
	write(t, at("backup"), true, "new")
	if _, got, err := read(at("backup")); got != "new" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	// Whoever comes meanwhile is not replaced either.
	late := draft(t, at("late"), false, "late")
	write(t, at("late2"), false, "first")
	if err := os.Rename(at("late2"), at("late")); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Finish(t.Context(), manifest, quiet); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("Finish over another: %v", err)
	}
	if err := late.Discard(); err != nil {
		t.Error(err)
	}
	wantNames(t, dir, "backup", "empty", "folder", "late", "link", "precious")
}

// TestLeftovers has what a killed process leaves, what one at work has, and what somebody else has put
// there as a trap.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "backup")
	killed := draft(t, path, false, "half of a long database")
	if err := os.WriteFile(killed.journal(), []byte("journal"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, false); err == nil || !strings.Contains(err.Error(), "another process is making") {
		t.Errorf("beside one at work: %v", err)
	}
	if err := killed.file.Close(); err != nil { // as the end of the process does
		t.Fatal(err)
	}
	write(t, path, false, "whole")
	if _, got, err := read(path); got != "whole" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	wantNames(t, dir, "backup")

	victim := filepath.Join(dir, "victim")
	trap := (&Draft{path: path}).Database()
	for name, plant := range map[string]func() error{
		"link":      func() error { return os.Symlink(victim, trap) },
		"hard link": func() error { return os.Link(victim, trap) },
		"pipe":      func() error { return syscall.Mkfifo(trap, 0o600) },
	} {
		err := errors.Join(os.WriteFile(victim, []byte("untouched"), 0o600), plant())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Create(path, true); err == nil {
			t.Errorf("a %s is taken", name)
		}
		if content, err := os.ReadFile(victim); err != nil || string(content) != "untouched" {
			t.Errorf("the victim of a %s holds %q, %v", name, content, err)
		}
		if err := os.Remove(trap); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "backup")
	write(t, path, false, "old")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d := draft(t, path, true, "new")
	if _, err := d.Finish(ended, manifest, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("Finish: %v, want context.Canceled", err)
	}
	if err := d.Discard(); err != nil {
		t.Error(err)
	}
	wantNames(t, dir, "backup")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Extract(ended, io.Discard, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("Extract: %v, want context.Canceled", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
