package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to what this binary knows. A newer one is refused: an old binary
// that writes into it would leave out what the newer one relies on.
//
// While processes of the version before go on, a migration may only add what they can do without:
// a table, a column with a default or NULL, an index. What they still use is taken away by the
// migration of the version after.
func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect, o Options) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(dialect, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithExcludeVersions(o.without))
	if err != nil {
		return fmt.Errorf("sqlstore: migrations: %w", err)
	}
	stored, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: read the schema version: %w", err)
	}
	if stored > known {
		return fmt.Errorf("sqlstore: the database has schema version %d and this program knows "+
			"versions up to %d: run a newer one", stored, known)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("sqlstore: migrate from schema version %d to %d: %w", stored, known, err)
	}
	return nil
}
