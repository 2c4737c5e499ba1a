package pgcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install makes a folder with programs that say a version, as Debian's packages do.
func install(t *testing.T, root, folder, version string, names ...string) string {
	t.Helper()
	bin := filepath.Join(root, folder, "bin")
	must(t, os.MkdirAll(bin, 0o755))
	for _, name := range names {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		must(t, os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755))
	}
	return bin
}

// TestFind looks for programs in places of its own.
func TestFind(t *testing.T) {
	all := []string{"postgres", "initdb", "pg_ctl", "pg_basebackup", "psql"}
	root, path := t.TempDir(), t.TempDir()
	pattern := filepath.Join(root, "*", "bin")
	lookPath := func(name string) (string, error) {
		at := filepath.Join(path, name)
		_, err := os.Stat(at)
		return at, err
	}
	check := func(what string, want Binaries, words ...string) {
		t.Helper()
		got, err := find(lookPath, pattern)
		if got != want || errors.Is(err, ErrMissing) != (want == Binaries{}) {
			t.Errorf("%s: %+v (%v), not %+v", what, got, err, want)
		}
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error does not say %q: %v", what, word, err)
			}
		}
	}
	check("nothing", Binaries{}, "apt-get install postgresql", pattern)
	install(t, root, "13", "13.22", all...)
	check("too old", Binaries{}, "apt-get install postgresql", "version 13")
	fourteen := install(t, root, "14", "14.9 (Debian 14.9-1)", all...)
	check("one", Binaries{fourteen, 14})
	newest := install(t, root, "100", "100beta1", all...)
	check("the newest, by number", Binaries{newest, 100})
	must(t, os.Remove(filepath.Join(newest, "pg_basebackup")))
	check("the newest is not complete", Binaries{fourteen, 14})
	elsewhere := install(t, root+"/elsewhere", "pg", "16.1", all...)
	must(t, os.Symlink(filepath.Join(elsewhere, "postgres"), filepath.Join(path, "postgres")))
	check("a link on PATH, to it alone", Binaries{elsewhere, 16})
	must(t, os.Remove(filepath.Join(elsewhere, "psql")))
	check("what PATH has is not complete", Binaries{fourteen, 14})
}

func TestMajorIn(t *testing.T) {
	for said, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15, "postgres (PostgreSQL) 19beta1": 19, "postgres (PostgreSQL) 9.6.24": 9,
		"": 0, "postgres (PostgreSQL) devel": 0,
	} {
		if got, err := majorIn(said); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d (%v)", said, got, err)
		}
	}
}
