package app_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/backup"
	"github.com/mailkeep/mailkeep/internal/disktest"
)

func init() {
	errands["hurried restores"] = hurriedRestores
	errands["hurried backups"] = func(args []string) error {
		return again(func() error { return hurriedCopy(args[0], args[1]) })
	}
}

// hurriedRestores is restoreInTurn for who does not wait for the disk.
func hurriedRestores(args []string) error {
	turn := 0
	return again(func() error {
		turn++
		f, err := backup.Open(args[1+turn%(len(args)-1)])
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		temp := filepath.Join(args[0], "temp")
		out, err := os.Create(temp)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Extract(context.Background(), out, func(int64, int64) {}), out.Close()); err != nil {
			return err
		}
		return os.Rename(temp, filepath.Join(args[0], "mailkeep.db"))
	})
}

// hurriedCopy replaces a file with a copy of another and does not wait for the disk.
func hurriedCopy(from, to string) error {
	return errors.Join(copyNaively(from, to+"-temp"), os.Rename(to+"-temp", to))
}

// Whether a count of faults is enough to stop.
func neverEnough(int) bool { return false }
func once(wrong int) bool  { return wrong > 0 }

// cutMidway takes the power of the disk away while an errand goes on and on, within the time that doing it
// twice takes, and returns how often it was done before. What is done meanwhile does not count: the kernel tells of a sync
// that meets the cut that it has succeeded, which no disk without power does.
func cutMidway(t *testing.T, disk *disktest.Disk, errand string, args ...string) (times int) {
	t.Helper()
	cmd := command(t, errand, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var begun atomic.Int64
	var first time.Time
	cut := make(chan struct{})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch begun.Add(1) {
		case 1:
			first = time.Now()
		case 3:
			time.AfterFunc(rand.N(1+time.Since(first)), func() {
				defer close(cut)
				times = int(begun.Load()) - 1
				disk.Cut()
				_ = cmd.Process.Kill()
			})
		}
	}
	if begun.Load() < 3 {
		t.Fatalf("%s ended by itself: %v", errand, cmd.Wait())
	}
	<-cut
	_ = cmd.Wait()
	disk.Restore()
	return times
}

// TestRestorePowerCut takes the power away from restores of two backups in turn: what one has returned
// from is there, or what the next one was about to put there.
func TestRestorePowerCut(t *testing.T) {
	f := startFull(t)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(t.TempDir(), "backup")
	if err := doErrand(t, "backup", f.config.DataDir, first); err != nil {
		t.Fatal(err)
	}
	// So many that an earlier one can be told from the next.
	files := []string{first}
	for n := range 5 {
		files = append(files, spoil(t, first, fmt.Sprintf(`UPDATE providers SET description = 'of backup %d'`, n)))
	}
	keyset := filepath.Join(f.config.DataDir, "keyset.json")
	states := map[string]string{}
	for _, file := range files {
		dir := newFolder(t, keyset)
		if _, err := app.Restore(t.Context(), app.RestoreOptions{From: file, DataDir: dir}); err != nil {
			t.Fatal(err)
		}
		states[state(t, dir)] = file
	}
	wrong := func(errand string, rounds int, enough func(wrong int) bool) (n int) {
		disk := disktest.New(t, 256)
		c := f.config
		c.DataDir, c.KeysetFile = filepath.Join(disk.Path(), "data"), keyset
		for round := 0; round < rounds && !enough(n); round++ {
			if err := os.RemoveAll(c.DataDir); err != nil {
				t.Fatal(err)
			}
			if _, err := app.Restore(t.Context(), app.RestoreOptions{From: files[0], DataDir: c.DataDir}); err != nil {
				t.Fatal(err)
			}
			times := cutMidway(t, disk, errand, append([]string{c.DataDir}, files...)...)
			a, err := app.Open(t.Context(), c)
			if err != nil {
				t.Log(err)
				n++
				continue
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			got := states[state(t, c.DataDir)]
			if i := slices.Index(files, got); i < 0 || (i-times%len(files)+len(files))%len(files) > 2 {
				n++
			}
		}
		return n
	}
	cuts := atLength(2, 40)
	got, control := wrong("restores", cuts, neverEnough), wrong("hurried restores", 30, once)
	t.Logf("REL restore_power_cut cuts=%d wrong=%d control_wrong=%d", cuts, got, control)
	if got > 0 || control == 0 {
		t.Error("a restore did not survive, or the red control did")
	}
}

// TestBackupPowerCut takes the power away from backups to a new name each time.
func TestBackupPowerCut(t *testing.T) {
	f := startFull(t)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(t.TempDir(), "backup")
	if err := doErrand(t, "backup", f.config.DataDir, first); err != nil {
		t.Fatal(err)
	}
	wrong := func(errand, from string, rounds int, enough func(wrong int) bool) (n int) {
		disk := disktest.New(t, 64)
		to := filepath.Join(disk.Path(), "backup")
		for round := 0; round < rounds && !enough(n); round++ {
			if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			cutMidway(t, disk, errand, from, to)
			if err := wholeBackup(t, to); err != nil {
				t.Log(err)
				n++
			}
		}
		return n
	}
	cuts := atLength(2, 40)
	got, control := wrong("backups", f.config.DataDir, cuts, neverEnough), wrong("hurried backups", first, 30, once)
	t.Logf("REL backup_power_cut cuts=%d wrong=%d control_wrong=%d", cuts, got, control)
	if got > 0 || control == 0 {
		t.Error("a backup did not survive, or the red control did")
	}
}
