package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/secret"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// Migrate brings the schema of a PostgreSQL database up to date and returns its version.
func Migrate(ctx context.Context, url secret.Text) (version int64, err error) {
	version, err = sqlstore.MigratePostgres(ctx, url.Reveal(), sqlstore.Options{})
	return version, aboutURL(err)
}

// Copy copies the embedded store of a data folder, which no service may be using, to an empty PostgreSQL
// database, or goes on with a copy that was interrupted. It returns how many rows there are. The keyset
// stays where it is: services on the database need it.
func Copy(ctx context.Context, dataDir string, url secret.Text, progress func(table string, done, all int64)) (rows int64, err error) {
	dir, from, err := openEmbedded(ctx, dataDir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, from.Close(), dir.Close()) }()
	to, err := sqlstore.OpenPostgres(ctx, url.Reveal(), sqlstore.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return sqlstore.Copy(ctx, from, to, progress)
}

// AbandonCopy lets the embedded store of a data folder serve again that was copied, wholly or in part. It
// reports whether it was.
func AbandonCopy(ctx context.Context, dataDir string) (was bool, err error) {
	dir, db, err := openEmbedded(ctx, dataDir)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close(), dir.Close()) }()
	return db.AbandonCopy(ctx)
}

// openEmbedded opens the embedded store of a data folder that has one.
func openEmbedded(ctx context.Context, dataDir string) (*datadir.Dir, *sqlstore.DB, error) {
	pending, _ := pendingRestore(dataDir) // which is finished below
	if _, err := os.Stat(filepath.Join(dataDir, databaseFile)); errors.Is(err, fs.ErrNotExist) && pending == "" {
		return nil, nil, fmt.Errorf("%s has no database: --from must name the data folder of a service that ran without --database-url", dataDir)
	}
	dir, err := datadir.Open(dataDir)
	if err != nil {
		return nil, nil, err
	}
	db, err := openDatabase(ctx, dir, sqlstore.Options{})
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return dir, db, nil
}
