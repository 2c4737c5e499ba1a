package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mailkeep/mailkeep/internal/backup"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// BackupOptions say what Backup does.
type BackupOptions struct {
	DataDir   string
	To        string
	Overwrite bool // an earlier backup
	Progress  Progress
}

// Progress is told how far a step has come. A total of 0 is unknown.
type Progress func(step string, done, total int64)

func (p Progress) of(step string) func(done, total int64) {
	return func(done, total int64) {
		if p != nil {
			p(step, done, total)
		}
	}
}

// BackedUp is what Backup has made.
type BackedUp struct {
	backup.Manifest
	Size int64
}

// Backup copies the database in a data folder, as it is at one moment, into a file. A service may be
// using it. Every change that was acknowledged before is in the copy; the keyset is not.
func Backup(ctx context.Context, o BackupOptions) (b BackedUp, err error) {
	database := filepath.Join(o.DataDir, databaseFile)
	before, err := findDatabase(o.DataDir, database)
	if err != nil {
		return b, err
	}
	draft, err := backup.Create(o.To, o.Overwrite)
	if err != nil {
		return b, fmt.Errorf("--to: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, draft.Discard())
		}
	}()
	b.Made = time.Now().UTC()
	if err := sqlstore.BackUpSQLite(ctx, database, draft.Database(), o.Progress.of("copying")); err != nil {
		return b, fmt.Errorf("%s: %w", database, err)
	}
	// The service keeps one file for ever; only a restore puts another in its place, and could have done
	// so between the opening of the database and that of its log.
	if after, err := os.Stat(database); err != nil || !os.SameFile(before, after) {
		return b, fmt.Errorf("%s was replaced meanwhile, by a restore: run this again", database)
	}
	o.Progress.of("checking")(0, 0)
	if b.Contents, err = sqlstore.InspectSQLite(ctx, draft.Database()); err != nil {
		return b, fmt.Errorf("%s: %w", database, err)
	}
	if b.Size, err = draft.Finish(ctx, b.Manifest, o.Progress.of("finishing")); err != nil {
		return b, fmt.Errorf("--to: %w", err)
	}
	return b, nil
}

// findDatabase returns what the database's file is.
func findDatabase(dir, database string) (fs.FileInfo, error) {
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, fmt.Errorf("there is no data folder %s: --data-dir names it", dir)
	} else if err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	pending, err := pendingRestore(dir)
	if err != nil {
		return nil, err
	}
	if pending != "" {
		return nil, fmt.Errorf("a restore into %s was interrupted: start the service once, which finishes it", dir)
	}
	info, err := os.Stat(database)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no database in %s: --data-dir names the data folder of a service "+
			"(one with --database-url has none: back up PostgreSQL with its own tools)", dir)
	case err != nil:
		return nil, fmt.Errorf("--data-dir: %w", err)
	case info.Size() == 0:
		return nil, fmt.Errorf("the database in %s is empty: no service has used it yet", dir)
	}
	return info, nil
}
