package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/mailkeep/mailkeep/internal/auth"
)

// Options are what OpenSQLite and OpenPostgres can be told. The zero value is right for production.
type Options struct {
	// Settings replaces settings of SQLite, by the names of their pragmas. Any value but the
	// safe one is refused; tests use it to see that, and what the others would lose.
	Settings map[string]string

	// UnsafeDurability allows unsafe values of SQLite's journal_mode and synchronous, and of
	// PostgreSQL's fsync, full_page_writes and synchronous_commit: acknowledged changes may be lost
	// in a power cut, or when a standby takes over.
	UnsafeDurability bool

	// Now is the clock; nil is time.Now.
	Now func() time.Time

	// Log is told what operators should know of the database; nil is nobody.
	Log *slog.Logger

	// Committed is told how many writes shared a commit; nil is nobody.
	Committed func(writes int)

	// more are migrations that this program knows besides its own, as if it were a newer one.
	more []*goose.Migration

	// lockPatience replaces lockPatience.
	lockPatience time.Duration
}

// OpenSQLite opens the database file at path, makes it if there is none, and brings its schema up
// to date. The file and those that SQLite puts beside it are readable by their owner only.
//
// Only one process may have it open; who calls sees to that (datadir).
func OpenSQLite(ctx context.Context, path string, o Options) (*DB, error) {
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	writer, err := openPool(path, o, url.Values{"_txlock": {"immediate"}})
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	writer.SetMaxIdleConns(1)
	reader, err := openPool(path, o, url.Values{"_query_only": {"1"}})
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	readers := max(4, 2*runtime.GOMAXPROCS(0))
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)

	engine := &sqliteEngine{
		reader: reader, writer: writer, patience: patience, classify: sqliteClass, told: o.Committed, ends: newEnds(),
		providers: new(cache[providerKey, providerRow]), tokens: new(cache[[32]byte, auth.Token]),
	}
	engine.queue.run = engine.commitBatch
	engine.eraser.again = eraseAgain
	db := &DB{reader: reader, engine: engine, now: o.Now}
	if db.now == nil {
		db.now = time.Now
	}
	if _, err := migrate(ctx, writer, goose.DialectSQLite3, o); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := engine.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// createPrivate makes an empty database file that only its owner can read, whatever the umask, and
// takes others' rights to an existing one away. SQLite gives the files beside it the same mode.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		err = errors.Join(f.Chmod(0o600), f.Close())
	case errors.Is(err, fs.ErrExist):
		// Not opened: closing it would drop the locks of this process on the database.
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return err
	}
	for _, beside := range []string{"-wal", "-shm"} {
		if err := os.Chmod(path+beside, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Without this a power cut can take the name of the file away.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// openPool returns a pool whose every connection has the settings.
func openPool(path string, o Options, query url.Values) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	query.Set("mode", "rw")
	for _, s := range settings {
		query.Add("_pragma", s.name+"("+s.chosen(o)+")")
	}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return sql.OpenDB(hotConnector{checkedConnector{connector, o}}), nil
}

// checkedConnector hands out connections only after it has seen that they have taken the settings:
// SQLite passes silently over those it can't or won't take.
type checkedConnector struct {
	driver.Connector
	options Options
}

// Connect implements driver.Connector.
func (c checkedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkSettings(ctx, conn, c.options); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
