package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mailkeep/mailkeep/internal/backup"
	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// RestoreOptions say what Restore does.
type RestoreOptions struct {
	From       string
	DataDir    string
	KeysetFile string // the data folder's if empty
	Replace    bool   // a database that is there
	CancelOpen bool   // mails that were queued or being sent
	Progress   Progress
}

// Restored is what Restore has done.
type Restored struct {
	backup.Manifest
	Replaced  string // where the old database is now; empty if there was none
	Cancelled int64  // mails
	Keyset    string // path of the keyset
	HasKeyset bool   // it is there, and it fits
}

// restoreFile is the name of the database until it is one.
var restoreFile = datadir.TempName("restore.db")

// reasonRestored is what a mail says that Restore has cancelled.
const reasonRestored = "cancelled when a backup was restored: it may have been sent after the backup was made"

// Restore puts the database of a backup into a data folder that no process has. If it fails before the
// very end nothing has changed, and a crash leaves the old database or the new one, whole.
func Restore(ctx context.Context, o RestoreOptions) (r Restored, err error) {
	from, err := backup.Open(o.From)
	if err != nil {
		return r, fmt.Errorf("--from: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	dir, err := datadir.Open(o.DataDir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, dir.RemoveTemps(), dir.Close()) }()
	if err := mayReplace(dir, o.Replace); err != nil {
		return r, err
	}
	r.Manifest = from.Manifest
	if err := extract(ctx, from, dir.Path(restoreFile), o); err != nil {
		return r, err
	}
	if err := r.prepare(ctx, dir, o); err != nil {
		return r, fmt.Errorf("%w; nothing was changed", err)
	}
	r.Replaced, err = replaceDatabase(dir, restoreFile, time.Now())
	return r, err
}

// mayReplace refuses to replace a database unasked.
func mayReplace(dir *datadir.Dir, replace bool) error {
	finished, _, err := finishRestore(dir)
	if err != nil || replace {
		return err
	}
	_, err = os.Lstat(dir.Path(databaseFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--data-dir: %w", err)
	case finished:
		return fmt.Errorf("an earlier restore into %s was interrupted, and is finished now; --replace restores once more", dir.Path(""))
	}
	return fmt.Errorf("there is a database in %s already; --replace moves it aside", dir.Path(""))
}

// extract writes the backup's database to a new file and looks at it.
func extract(ctx context.Context, from *backup.File, path string, o RestoreOptions) error {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(to.Chmod(0o600), from.Extract(ctx, to, o.Progress.of("copying")), to.Close())
	if err == nil {
		o.Progress.of("checking")(0, 0)
		_, err = sqlstore.InspectSQLite(ctx, path)
	}
	if err != nil {
		return fmt.Errorf("--from %s: %w", o.From, err)
	}
	return nil
}

// prepare brings the extracted database up to date and does with it what was asked for.
func (r *Restored) prepare(ctx context.Context, dir *datadir.Dir, o RestoreOptions) error {
	path := dir.Path(restoreFile)
	db, err := sqlstore.OpenSQLite(ctx, path, sqlstore.Options{})
	if err != nil {
		return err
	}
	if o.CancelOpen {
		r.Cancelled, err = db.CancelOpen(ctx, time.Now(), reasonRestored)
	}
	if err == nil {
		err = r.checkKeyset(ctx, db, dir, o.KeysetFile)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return settle(path)
}

// checkKeyset refuses a keyset that does not open what is in the database. That there is none is fine.
func (r *Restored) checkKeyset(ctx context.Context, db *sqlstore.DB, dir *datadir.Dir, path string) error {
	r.Keyset = path
	if path == "" {
		r.Keyset = dir.Path(keysetFile)
	}
	keyset, err := seal.Load(keyFile(r.Keyset))
	switch {
	case errors.Is(err, seal.ErrNoKeyset) && path == "":
		return nil
	case errors.Is(err, seal.ErrNoKeyset):
		return fmt.Errorf("--keyset-file: there is no keyset at %s", path)
	case err != nil:
		return fmt.Errorf("%s: %w", r.Keyset, err)
	}
	err = emailprovider.CheckKeys(ctx, db, seal.NewRing(keyset, db, time.Now))
	if err == nil {
		err = keyset.Check(ctx, db)
	}
	if err != nil {
		return fmt.Errorf("%s does not fit the backup: %w", r.Keyset, err)
	}
	r.HasKeyset = true
	return nil
}

// settle makes a closed database durable, and sees that all of it is in its file.
func settle(path string) error {
	for _, beside := range []string{"-wal", "-journal"} {
		if _, err := os.Lstat(path + beside); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("SQLite has left %s beside the database", beside))
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
