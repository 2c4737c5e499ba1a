package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mailkeep/mailkeep/internal/backup"
)

// BackUpSQLite copies the database at path, as it is at one moment, into the empty file at to. Another
// process may have it open and goes on writing meanwhile. The progress is about right.
//
// This is VACUUM INTO and not SQLite's backup API, which copies pages as they are. What was deleted can
// still be in those: secure_delete misses what moved between pages before, 1 of 5,700 replaced
// ciphertexts in a test. VACUUM writes rows, so a copy has what is stored and nothing else. Neither keeps
// writers waiting, since readers of a log don't. 340 MB took 0.85 s and 0.6 s here, beside a process
// that made 1,900 to 2,900 changes a second meanwhile, and 4,000 without.
func BackUpSQLite(ctx context.Context, path, to string, progress func(done, total int64)) error {
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	// mode=rw because a log that a killed process has left behind must be read too. All that synchronous
	// is about is what happens if this turns out to be the last process that has the database open.
	db, err := openFile(path, url.Values{"mode": {"rw"}, "_pragma": {"busy_timeout(" + busyTimeout + ")", "synchronous(FULL)"}})
	if err != nil {
		return err
	}
	return errors.Join(explainFile(ctx, copyInto(ctx, db, to, progress)), db.Close())
}

func copyInto(ctx context.Context, db *sql.DB, to string, progress func(done, total int64)) error {
	var total int64
	err := db.QueryRowContext(ctx, `SELECT (p.page_count - f.freelist_count) * s.page_size
		FROM pragma_page_count AS p, pragma_freelist_count AS f, pragma_page_size AS s`).Scan(&total)
	if err != nil {
		return err
	}
	stop := watchSize(to, func(size int64) { progress(min(size, total), total) })
	defer stop()
	if _, err = db.ExecContext(ctx, `VACUUM INTO $1`, to); sqliteClass(err) == full {
		return fmt.Errorf("there is no space left for a copy in %s: %w", filepath.Dir(to), err)
	}
	return err
}

// openFile opens a database in a file without changing its settings.
func openFile(path string, query url.Values) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	query["_pragma"] = append(query["_pragma"], "trusted_schema(OFF)", "mmap_size(0)")
	connector, err := sqlite.NewConnector((&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db, nil
}

// watchSize tells the size of a growing file, now and then, until it is stopped.
func watchSize(path string, tell func(size int64)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if info, err := os.Stat(path); err == nil {
					tell(info.Size())
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

// explainFile says what is wrong with a database in a file.
func explainFile(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_NOTADB:
			return errForeign
		case sqlite3.SQLITE_CORRUPT:
			return fmt.Errorf("the database is damaged: %w", err)
		}
	}
	return err
}

var errForeign = errors.New("it is not a database of Mailkeep")

// oldestBackup is the oldest schema version that InspectSQLite knows how to ask.
const oldestBackup = 6

// InspectSQLite says what is in the database at path, after it has seen that it is one of Mailkeep's,
// whole, not of a version to come, and not what was left when its content moved elsewhere. Nobody may be
// writing to it.
func InspectSQLite(ctx context.Context, path string) (c backup.Contents, err error) {
	db, err := openFile(path, url.Values{"mode": {"ro"}, "immutable": {"1"}})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if c.Schema, err = schemaVersion(ctx, db); err != nil {
		return c, err
	}
	if err := checkIntegrity(ctx, db); err != nil {
		return c, err
	}
	var moved bool
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM copies WHERE role = 'source')`).Scan(&moved)
	if err == nil && moved {
		return c, errMoved
	}
	if err != nil {
		return c, explainFile(ctx, err)
	}
	if c.Sequences, c.Keys, err = sequencesAndKeys(ctx, db, c.Schema); err == nil {
		err = db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM providers), (SELECT count(*) FROM messages),
			(SELECT count(*) FROM messages WHERE open)`).Scan(&c.Providers, &c.Mails, &c.Open)
	}
	if err != nil {
		return c, explainFile(ctx, err)
	}
	return c, nil
}

func schemaVersion(ctx context.Context, db *sql.DB) (version int64, err error) {
	var ours bool
	err = db.QueryRowContext(ctx, `SELECT count(*) = 2 FROM sqlite_schema
		WHERE type = 'table' AND name IN ('goose_db_version', 'providers')`).Scan(&ours)
	if err == nil && !ours {
		return 0, errForeign
	}
	if err == nil {
		err = db.QueryRowContext(ctx, `SELECT COALESCE(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version)
	}
	if err != nil {
		return 0, explainFile(ctx, err)
	}
	known, err := knownSchema()
	switch {
	case err != nil:
		return 0, err
	case version > known:
		return 0, fmt.Errorf("the database has schema version %d and this program knows versions up to %d: run a newer one", version, known)
	case version < oldestBackup:
		return 0, fmt.Errorf("the database has schema version %d, from before there were backups: start the service with it once", version)
	}
	return version, nil
}

// knownSchema returns the latest schema version that this program knows.
func knownSchema() (latest int64, err error) {
	for _, m := range written(goose.DialectSQLite3) {
		latest = max(latest, m.Version)
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	for _, f := range files {
		version, err := goose.NumericComponent(f)
		if err != nil {
			return 0, err
		}
		latest = max(latest, version)
	}
	return latest, err
}

func checkIntegrity(ctx context.Context, db *sql.DB) error {
	var found string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&found); err != nil {
		return explainFile(ctx, err)
	}
	if found != "ok" {
		return fmt.Errorf("the database is damaged: %s", found)
	}
	return nil
}

// schemaOfInstanceKeys is the version from which on instances have keys of their own.
const schemaOfInstanceKeys = 9

// What of a keyset it takes to open everything in a backup.
const (
	keysBeforeInstances = `SELECT key_id AS id FROM providers WHERE key_id IS NOT NULL
		UNION SELECT prev_key_id FROM providers WHERE prev_key_id IS NOT NULL
		UNION SELECT key_id FROM message_contents UNION SELECT key_id FROM key_checks`
	keysOfBackup = `SELECT id FROM (` + keysBeforeInstances + `) WHERE id NOT IN (SELECT key_id FROM instance_keys)
		UNION SELECT wrapped_by FROM instance_keys`
)

func sequencesAndKeys(ctx context.Context, db *sql.DB, schema int64) (sequences map[string]uint64, keys []uint32, err error) {
	sequences = map[string]uint64{}
	rows, err := db.QueryContext(ctx, `SELECT id, sequence FROM instances`)
	_, err = collect(rows, err, func() (none struct{}, err error) {
		var id string
		var sequence uint64
		err = rows.Scan(&id, &sequence)
		sequences[id] = sequence
		return none, err
	})
	if err != nil {
		return nil, nil, err
	}
	query := keysOfBackup
	if schema < schemaOfInstanceKeys {
		query = keysBeforeInstances
	}
	rows, err = db.QueryContext(ctx, query+` ORDER BY 1`)
	keys, err = collect(rows, err, func() (id uint32, err error) { return id, rows.Scan(&id) })
	return sequences, keys, err
}
