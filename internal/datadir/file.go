package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ReadFile returns the content of a file in the folder; see the function ReadFile.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return ReadFile(d.Path(name))
}

// WriteFile makes data the content of a file in the folder; see the function WriteFile.
func (d *Dir) WriteFile(name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	return WriteFile(d.Path(name), data)
}

// ReadFile returns the content of a file. A file that does not exist is fs.ErrNotExist. Other
// readers of the file are shut out if it is ours to do that; one on a read-only mount stays as it
// is.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
			return nil, err
		}
	}
	return os.ReadFile(path)
}

// WriteFile makes data the content of a file, which has its old content or all of the new one
// whatever happens. Once WriteFile has returned, the new content survives a power cut.
//
// It is written under a name of its own first, and the folder is synced at the end: without that a
// power cut takes the name away, and with it the file.
func WriteFile(path string, data []byte) error {
	temp, err := writeTemp(filepath.Dir(path), data)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

func writeTemp(dir string, data []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// checkName refuses what is not the name of a file of its own in the folder.
func checkName(name string) error {
	if name != filepath.Base(name) || name == lockName || strings.HasPrefix(name, ".") {
		return fmt.Errorf("data folder: file name %q: %w", name, fs.ErrInvalid)
	}
	return nil
}

// Rename gives a file in the folder another name, durably. What has that name already is not replaced:
// that is fs.ErrExist. A file that does not exist is fs.ErrNotExist.
func (d *Dir) Rename(from, to string) error {
	if err := checkName(to); err != nil {
		return err
	}
	if from != filepath.Base(from) || from == lockName {
		return fmt.Errorf("data folder: file name %q: %w", from, fs.ErrInvalid)
	}
	if _, err := os.Lstat(d.Path(from)); err != nil {
		return err
	}
	switch _, err := os.Lstat(d.Path(to)); {
	case err == nil:
		return fmt.Errorf("%s: %w", d.Path(to), fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.Rename(d.Path(from), d.Path(to)); err != nil {
		return err
	}
	return SyncDir(d.path)
}

// SyncDir makes the names of files in a folder survive a power cut.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
