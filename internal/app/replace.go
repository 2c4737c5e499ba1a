package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// A restore is decided when the new database has the name mailkeep.db.restored-TIME, whole and durable.
// What remains is to move the files of the old one aside, to mailkeep.db.replaced-TIME and so on, and
// give the new one the name mailkeep.db. There is no moment at which a crash could leave half of that to
// be taken for a database: while the new one has its first name, whoever has the folder finishes first.
//
// Moving things in a clever order would not be enough. The old write-ahead log beside the new database
// would be written into it, and the old database without its log has lost changes.
const (
	restoredPrefix = databaseFile + ".restored-"
	replacedPrefix = databaseFile + ".replaced-"
)

// move is a change of name in the data folder.
type move struct{ from, to string }

// moves put the database that was restored at a time into its place.
func moves(stamp string) []move {
	all := []move{}
	for _, part := range []string{"", "-wal", "-shm"} {
		all = append(all, move{databaseFile + part, replacedPrefix + stamp + part})
	}
	return append(all, move{restoredPrefix + stamp, databaseFile})
}

// newStamp returns a time that no file in the folder has in its name.
func newStamp(dir *datadir.Dir, now time.Time) (string, error) {
	entries, err := os.ReadDir(dir.Path(""))
	if err != nil {
		return "", err
	}
	stamp := now.UTC().Format("20060102T150405Z")
	for n := 2; slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.Contains(e.Name(), "-"+stamp) }); n++ {
		stamp = fmt.Sprintf("%s-%d", now.UTC().Format("20060102T150405Z"), n)
	}
	return stamp, nil
}

// replaceDatabase puts a file of the data folder into the place of the database, and returns where the
// old one is now, if there was one.
func replaceDatabase(dir *datadir.Dir, with string, now time.Time) (replaced string, err error) {
	stamp, err := newStamp(dir, now)
	if err != nil {
		return "", err
	}
	if err := dir.Rename(with, restoredPrefix+stamp); err != nil {
		return "", err
	}
	_, replaced, err = finishRestore(dir)
	return replaced, err
}

// finishRestore does what a restore that was decided has left to do, if there is one, and returns where
// the old database is now, if there was one.
func finishRestore(dir *datadir.Dir) (finished bool, replaced string, err error) {
	pending, err := pendingRestore(dir.Path(""))
	if pending == "" || err != nil {
		return false, "", err
	}
	stamp := strings.TrimPrefix(pending, restoredPrefix)
	for _, m := range moves(stamp) {
		if err := dir.Rename(m.from, m.to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, "", fmt.Errorf("finishing a restore, %s to %s: %w", m.from, m.to, err)
		}
	}
	if _, err := os.Lstat(dir.Path(replacedPrefix + stamp)); err == nil {
		replaced = dir.Path(replacedPrefix + stamp)
	}
	return true, replaced, nil
}

// openDatabase opens the database in a data folder, after it has finished a restore that was interrupted.
func openDatabase(ctx context.Context, dir *datadir.Dir, o sqlstore.Options) (*sqlstore.DB, error) {
	finished, replaced, err := finishRestore(dir)
	if err != nil {
		return nil, err
	}
	if finished && o.Log != nil {
		o.Log.Warn("a restore that was interrupted is finished", "former_database", replaced)
	}
	return sqlstore.OpenSQLite(ctx, dir.Path(databaseFile), o)
}

// pendingRestore returns the name of the file that a restore which is decided has left in the folder.
func pendingRestore(dir string) (name string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), restoredPrefix) {
			return e.Name(), nil
		}
	}
	return "", nil
}
