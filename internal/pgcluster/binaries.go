package pgcluster

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrMissing says that PostgreSQL is not installed, or not all of it.
var ErrMissing = errors.New("PostgreSQL is not installed (on Debian: apt-get install postgresql)")

// debian is where Debian's packages have the programs of each major version.
const debian = "/usr/lib/postgresql/*/bin"

// oldest is the first major version that the service is made for.
const oldest = 14

// Binaries are the programs of one version of PostgreSQL.
type Binaries struct {
	Folder string
	Major  int // version, such as 15
}

// Find looks for the programs on PATH and, the newest first, where Debian has them.
func Find() (Binaries, error) { return find(exec.LookPath, debian) }

func find(lookPath func(string) (string, error), pattern string) (Binaries, error) {
	missing := fmt.Errorf("%w: no postgres on PATH or in %s", ErrMissing, pattern)
	for _, folder := range candidates(lookPath, pattern) {
		b, err := look(folder)
		if err == nil {
			return b, nil
		}
		missing = err
	}
	return Binaries{}, missing
}

// candidates are folders that may have the programs. On PATH there can be links to some of them.
func candidates(lookPath func(string) (string, error), pattern string) []string {
	found, _ := filepath.Glob(pattern) // fails on a bad pattern only
	slices.SortFunc(found, func(a, b string) int { return majorOf(b) - majorOf(a) })
	if path, err := lookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = slices.Insert(found, 0, filepath.Dir(path))
		}
	}
	return found
}

// majorOf reads the version in a folder's name, /usr/lib/postgresql/15/bin.
func majorOf(folder string) int {
	major, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
	return major
}

// look sees whether everything that clusters need is in a folder.
func look(folder string) (Binaries, error) {
	for _, name := range []string{"postgres", "initdb", "pg_ctl", "pg_basebackup", "psql"} {
		if _, err := exec.LookPath(filepath.Join(folder, name)); err != nil {
			return Binaries{}, fmt.Errorf("%w: no %s in %s", ErrMissing, name, folder)
		}
	}
	said, err := exec.Command(filepath.Join(folder, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("%s/postgres --version: %w", folder, err)
	}
	major, err := majorIn(string(said))
	if err != nil {
		return Binaries{}, err
	}
	if major < oldest {
		return Binaries{}, fmt.Errorf("%w: %s has version %d, not %d or newer", ErrMissing, folder, major, oldest)
	}
	return Binaries{Folder: folder, Major: major}, nil
}

// majorIn reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", or 19beta1.
func majorIn(said string) (int, error) {
	words := strings.Fields(said)
	if len(words) >= 3 {
		digits := words[2][:len(words[2])-len(strings.TrimLeft(words[2], "0123456789"))]
		if major, err := strconv.Atoi(digits); err == nil {
			return major, nil
		}
	}
	return 0, fmt.Errorf("postgres --version says %q, which has no version", said)
}
