package backup

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mailkeep/mailkeep/internal/datadir"
)

// Draft is a backup that is being made, beside the place where it will be.
type Draft struct {
	path      string
	overwrite bool
	file      *os.File // locked
}

// Create begins a backup at path. If there is something already it is refused, and nothing but a backup
// is ever replaced. What an earlier attempt has left behind is taken over.
func Create(path string, overwrite bool) (*Draft, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkTarget(path, overwrite); err != nil {
		return nil, err
	}
	d := &Draft{path: path, overwrite: overwrite}
	d.file, err = os.OpenFile(d.Database(), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := d.clear(); err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d, nil
}

// checkTarget refuses to replace something.
func checkTarget(path string, overwrite bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder: name a file in it", path)
	case !overwrite:
		return fmt.Errorf("%s exists already; --overwrite replaces an earlier backup", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file: it is not replaced", path)
	}
	old, err := Open(path)
	if err != nil {
		return fmt.Errorf("only a backup is replaced: %w", err)
	}
	return old.Close()
}

// clear makes the draft empty and this process's own.
func (d *Draft) clear() error {
	if err := syscall.Flock(int(d.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("another process is making the backup %s", d.path)
		}
		return fmt.Errorf("%s: lock: %w", d.Database(), err)
	}
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	// In a folder that others can write to, it may be a trap: a link to a file of ours.
	if stat := info.Sys().(*syscall.Stat_t); !info.Mode().IsRegular() || stat.Nlink != 1 || stat.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s is in the way, and no backup has left it there", d.Database())
	}
	return errors.Join(d.file.Truncate(0), d.file.Chmod(0o600), removeIfThere(d.journal()))
}

// Database returns the path of an empty file, where the database belongs.
func (d *Draft) Database() string {
	return filepath.Join(filepath.Dir(d.path), "."+filepath.Base(d.path)+".partial")
}

// journal is what SQLite may have left beside the database.
func (d *Draft) journal() string { return d.Database() + "-journal" }

// Finish completes the backup and puts it in its place, durably. It returns the size of the file. The
// progress is of reading the database.
func (d *Draft) Finish(ctx context.Context, m Manifest, progress func(done, total int64)) (size int64, err error) {
	info, err := d.file.Stat()
	if err != nil {
		return 0, err
	}
	digest := sha256.New()
	e := end{size: info.Size()}
	if err := copyN(ctx, digest, d.file, e.size, progress); err != nil {
		return 0, err
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return 0, err
	}
	manifest = append(manifest, '\n')
	digest.Write(manifest)
	digest.Sum(e.digest[:0])
	if _, err = d.file.WriteAt(append(manifest, e.String()...), e.size); err != nil {
		return 0, err
	}
	if err := errors.Join(d.file.Sync(), checkTarget(d.path, d.overwrite)); err != nil {
		return 0, err
	}
	if err := os.Rename(d.Database(), d.path); err != nil {
		return 0, err
	}
	size = e.size + int64(len(manifest)+lastLine)
	return size, errors.Join(d.file.Close(), datadir.SyncDir(filepath.Dir(d.path)))
}

// Discard removes a draft that will not be finished.
func (d *Draft) Discard() error {
	return errors.Join(removeIfThere(d.journal()), removeIfThere(d.Database()), d.file.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyN copies n bytes until ctx ends.
func copyN(ctx context.Context, to io.Writer, from io.Reader, n int64, progress func(done, total int64)) error {
	chunk := make([]byte, 1<<20)
	for done := int64(0); done < n; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := chunk[:min(int64(len(chunk)), n-done)]
		if _, err := io.ReadFull(from, part); err != nil {
			return err
		}
		if _, err := to.Write(part); err != nil {
			return err
		}
		done += int64(len(part))
		progress(done, n)
	}
	return nil
}
