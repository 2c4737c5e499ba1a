// Package datadir is the folder that a process keeps its files in: readable by its owner only, used
// by one process at a time, and never with half a file in it.
package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	lockName   = "lock"
	tempPrefix = ".tmp-"
)

// Dir is an open data folder. Its methods may be called concurrently.
type Dir struct {
	path string
	lock *os.File
}

// Open makes the folder if there is none, takes other users' rights to it away and locks it. It
// fails if another process has it open, or if others can get in and it isn't ours to close. What a
// crash has left half-written is removed.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := makePrivate(path); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path, lock}
	if err := d.RemoveTemps(); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder: %w", err), d.Close())
	}
	return d, nil
}

// makePrivate sees to it that the folder exists, durably, and that only its owner gets in.
func makePrivate(path string) error {
	switch err := os.Mkdir(path, 0o700); {
	case err == nil:
		if err := SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w (the folder above must exist)", err)
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", path)
	}
	if info.Mode().Perm() == 0o700 {
		return nil
	}
	if err := refusePlanted(path, info.Mode()); err != nil {
		return err
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != uint32(os.Geteuid()) {
		return fmt.Errorf("%s has mode %#o and belongs to user %d: it must have mode 0700 or belong to the user running this, %d",
			path, info.Mode().Perm(), owner, os.Geteuid())
	}
	return os.Chmod(path, 0o700)
}

// refusePlanted refuses a folder in which others could have put files for us to trust.
func refusePlanted(path string, mode fs.FileMode) error {
	if mode.Perm()&0o022 == 0 {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) == 0 {
		return err
	}
	return fmt.Errorf("%s has mode %#o and is not empty: others may have put files into it, %s for one; "+
		"see that they are yours, then give the folder mode 0700", path, mode.Perm(), entries[0].Name())
}

// takeLock locks the folder until the file is closed or the process ends, however it ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("data folder %s is in use by another process%s", path, holder(f))
		} else {
			err = fmt.Errorf("data folder %s: lock: %w", path, err)
		}
		return nil, errors.Join(err, f.Close())
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	_, err = f.WriteAt([]byte(pid), 0)
	if err = errors.Join(f.Chmod(0o600), err, f.Truncate(int64(len(pid)))); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s: lock: %w", path, err), f.Close())
	}
	return f, nil
}

// InUse reports whether a process has the folder at path open.
func InUse(path string) bool {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // which also gives back the lock, if it was free
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// holder returns " (pid 123)" if the lock file says who has it.
func holder(lock *os.File) string {
	b := make([]byte, 20)
	n, _ := lock.ReadAt(b, 0) // A short file is no error here.
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}

// TempName returns the name of a file that is not ready yet: until Rename gives it another one, it is
// removed when the folder is next opened, and so is what SQLite has put beside it.
func TempName(name string) string { return tempPrefix + name }

// RemoveTemps removes files that never got their names.
func (d *Dir) RemoveTemps() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(filepath.Join(d.path, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Path returns the path of a file in the folder.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Close lets other processes have the folder.
func (d *Dir) Close() error { return d.lock.Close() }
