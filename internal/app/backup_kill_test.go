package app_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/backup"
)

// wholeBackup reports what is wrong with a backup.
func wholeBackup(t *testing.T, path string) error {
	f, err := backup.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Extract(t.Context(), io.Discard, func(int64, int64) {}), f.Close())
}

// TestBackupKilled kills backups that replace one another: at their place there is a whole one, or none
// yet. What is left of the killed ones is gone after the next. The red control writes in place.
func TestBackupKilled(t *testing.T) {
	f := startFull(t)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	before := read(t, f.config.DataDir)
	folder := t.TempDir()
	file := filepath.Join(folder, "backup")
	kills, cut, wrong := atLength(5, 100), 0, 0
	for range kills {
		killMidway(t, "backups", f.config.DataDir, file)
		if _, err := os.Lstat(filepath.Join(folder, ".backup.partial")); err == nil {
			cut++
		}
		if err := wholeBackup(t, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			wrong++
			t.Error(err)
		}
	}
	if err := doErrand(t, "backup", f.config.DataDir, file); err != nil {
		t.Error(err)
	}
	wantFiles(t, folder, "backup")
	if diff := cmp.Diff(before, read(t, f.config.DataDir)); diff != "" {
		t.Errorf("the database has changed (-before +after):\n%s", diff)
	}
	control := 0
	for range 50 {
		killMidway(t, "naive", file, filepath.Join(folder, "naive"))
		if wholeBackup(t, filepath.Join(folder, "naive")) != nil {
			control++
			break
		}
	}
	t.Logf("REL backup_killed kills=%d cut_off=%d wrong=%d control_wrong=%d", kills, cut, wrong, control)
	if cut == 0 || control == 0 {
		t.Error("no backup was killed midway, or the red control was not noticed")
	}
}

// TestRestoreKilled kills restores of two backups in turn: a service that starts then has all of the one
// or of the other.
func TestRestoreKilled(t *testing.T) {
	f := startFull(t)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(t.TempDir(), "backup")}
	if err := doErrand(t, "backup", f.config.DataDir, files[0]); err != nil {
		t.Fatal(err)
	}
	files = append(files, spoil(t, files[0], `UPDATE providers SET description = 'of the other'`))
	keyset := filepath.Join(f.config.DataDir, "keyset.json")
	states := map[string]string{}
	for _, file := range files {
		dir := newFolder(t, keyset)
		if _, err := app.Restore(t.Context(), app.RestoreOptions{From: file, DataDir: dir}); err != nil {
			t.Fatal(err)
		}
		states[state(t, dir)] = file
	}
	if len(states) != 2 {
		t.Fatal("the backups are the same")
	}
	c := f.config
	c.DataDir = newFolder(t, keyset)
	database := filepath.Join(c.DataDir, "mailkeep.db")
	if _, err := app.Restore(t.Context(), app.RestoreOptions{From: files[0], DataDir: c.DataDir}); err != nil {
		t.Fatal(err)
	}
	kills, pending, wrong := atLength(5, 100), 0, 0
	for range kills {
		killMidway(t, "restores", append([]string{c.DataDir}, files...)...)
		if left, err := filepath.Glob(database + ".restored-*"); err != nil || len(left) > 0 {
			pending++
		}
		if !starts(t, c, states) {
			wrong++
			t.Error("a killed restore has left half of something")
		}
	}
	replaced, err := filepath.Glob(database + ".replaced-*")
	if err != nil || len(replaced) == 0 {
		t.Errorf("kept are %v, %v", replaced, err)
	}
	control := 0
	plain := filepath.Join(t.TempDir(), "plain")
	copyFile(t, database, plain)
	for range 50 {
		killMidway(t, "naive", plain, database)
		if !starts(t, c, states) {
			control++
			break
		}
	}
	t.Logf("REL restore_killed kills=%d pending=%d wrong=%d kept=%d control_wrong=%d", kills, pending, wrong, len(replaced), control)
	if control == 0 {
		t.Error("the red control was not noticed")
	}
}

// state names what is in a data folder, but for the admin token, which each start writes anew.
func state(t *testing.T, dir string) string {
	s := read(t, dir)
	s.Tokens = slices.DeleteFunc(s.Tokens, func(t auth.Token) bool { return t.ID == "admin" })
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// starts reports whether a service starts and has one of the states.
func starts(t *testing.T, c app.Config, states map[string]string) bool {
	a, err := app.Open(t.Context(), c)
	if err != nil {
		t.Log(err)
		return false
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	return states[state(t, c.DataDir)] != ""
}

// TestInterruptedRestore is one that was decided: a backup waits for the next start of the service, which
// finishes it and says so, or for the next restore, which does too.
func TestInterruptedRestore(t *testing.T) {
	f := startFull(t)
	file := filepath.Join(t.TempDir(), "backup")
	if err := doErrand(t, "backup", f.config.DataDir, file); err != nil {
		t.Fatal(err)
	}
	f.sendMail(t)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	other := newFolder(t, "")
	if _, err := app.Restore(t.Context(), app.RestoreOptions{From: file, DataDir: other}); err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(f.config.DataDir, "mailkeep.db")
	interrupt := func() { copyFile(t, filepath.Join(other, "mailkeep.db"), database+".restored-20270131T090000Z") }
	interrupt()
	_, err := app.Backup(t.Context(), app.BackupOptions{DataDir: f.config.DataDir, To: file + "-2"})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("a backup meanwhile: %v", err)
	}
	s := start(t, f.config)
	if log := s.log.String(); !strings.Contains(log, "interrupted") || !strings.Contains(log, database+".replaced-20270131T090000Z") {
		t.Errorf("the log has:\n%s", log)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f.config.DataDir); len(got.Mails) != 4 {
		t.Errorf("%d mails, want those of the backup", len(got.Mails))
	}
	if err := os.Rename(database+".replaced-20270131T090000Z", database+".aside"); err != nil {
		t.Fatal(err)
	}
	interrupt()
	_, err = app.Restore(t.Context(), app.RestoreOptions{From: file, DataDir: f.config.DataDir})
	if err == nil || !strings.Contains(err.Error(), "is finished now") {
		t.Errorf("a restore after it: %v", err)
	}
	wantFiles(t, f.config.DataDir, "keyset.json", "lock", "mailkeep.db", "mailkeep.db.aside", "mailkeep.db.replaced-20270131T090000Z")
}
