// Package sqlstore keeps everything in an SQL database: providers and their events
// (emailprovider.Store, emailprovider.Vault), tokens (auth.Store), uses of deprecated methods
// (deprecation.Store). One *DB is all of these.
//
// There is one SQL text. What differs between databases is behind engine.
//
// Times are kept to the microsecond. Failures that may pass are *fault.Error of kind Unavailable or
// ResourceExhausted; the end of a caller's context comes back as such.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mailkeep/mailkeep/internal/audit"
)

// DB is a store. Its methods may be called concurrently.
type DB struct {
	reader *sql.DB
	engine engine
	seen   recents
	now    func() time.Time
	chain  *audit.Chain // of events; nil for none
}

// patience bounds a write: longer than SQLite waits for a lock, so that the answer names the lock.
const patience = 5500 * time.Millisecond

// Close ends all connections. Everything acknowledged is durable without it.
func (db *DB) Close() error { return errors.Join(db.reader.Close(), db.engine.close()) }

// SetUp runs f while no other process that has the database open runs one: for what must be made once.
func (db *DB) SetUp(ctx context.Context, f func() error) error { return db.engine.setUp(ctx, f) }

// micros is how a time is stored: microseconds since 1970, and 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// fromMicros is the inverse of micros.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// signed fits a number that a client may have chosen into what databases can compare.
func signed(n uint64) int64 { return int64(min(n, 1<<63-1)) }
