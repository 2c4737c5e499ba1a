package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// sqliteEngine is a database in a file, which no other process writes to.
type sqliteEngine struct {
	reader   *sql.DB
	writer   *sql.DB // one connection
	hot      statements
	queue    queue[write]
	ends     *ends                      // of whoever empties the queue, as the next two
	line     atomic.Pointer[sqliteLine] // the last one
	runaway  *time.Timer                // that ends it
	patience time.Duration              // for a whole write, waiting included
	classify func(error) class
	told     func(writes int) // of commits; may be nil
	alone    sync.Mutex
	eraser   eraser

	providers *cache[providerKey, providerRow]
	tokens    *cache[[32]byte, auth.Token] // by hash
}

// statements are prepared once, because parsing them would cost more than running them.
type statements struct {
	provider, active, tokenByHash, message *sql.Stmt // of reader; for those of the writer see sqliteLine
}

func (s *sqliteEngine) prepare(ctx context.Context) error {
	for _, p := range []struct {
		to    **sql.Stmt
		query string
	}{
		{&s.hot.provider, selectProvider},
		{&s.hot.active, selectActive},
		{&s.hot.tokenByHash, selectTokenByHash},
		{&s.hot.message, selectMessage},
	} {
		stmt, err := s.reader.PrepareContext(ctx, p.query)
		if err != nil {
			return fmt.Errorf("sqlstore: prepare %q: %w", p.query, err)
		}
		*p.to = stmt
	}
	return nil
}

// read implements engine.
func (s *sqliteEngine) read(ctx context.Context, pool *sql.DB, f func(context.Context, reader) error) error {
	return f(ctx, pool)
}

// epoch implements engine: there is one server.
func (s *sqliteEngine) epoch() uint32 { return 0 }

// setUp implements engine: no other process has the file.
func (s *sqliteEngine) setUp(_ context.Context, f func() error) error {
	s.alone.Lock()
	defer s.alone.Unlock()
	return f()
}

func (s *sqliteEngine) close() error { return s.writer.Close() }

func (s *sqliteEngine) accept(ctx context.Context, m *acceptance) (outbox.Message, error) {
	var taken outbox.Message
	err := s.write(ctx, write{clean: true, do: func(l *line) error { return accept(l, m, &taken) }})
	if errors.Is(err, errOutcomeUnknown) {
		return outbox.Message{}, err
	}
	return taken, err
}

func (s *sqliteEngine) claim(ctx context.Context, c outbox.ClaimRequest) (outbox.Claim, error) {
	return claimLocked(ctx, s, c)
}

func (s *sqliteEngine) settle(ctx context.Context, rows []settlementRow) error {
	all := make([]*settlementRow, len(rows))
	for i := range rows {
		all[i] = &rows[i]
	}
	return s.write(ctx, write{clean: true, do: func(l *line) error {
		s := settler{line: l}
		if err := s.settle(all); err != nil {
			return err
		}
		return s.finish()
	}})
}

func (s *sqliteEngine) provider(ctx context.Context, key providerKey) (providerRow, error) {
	row, err := s.providers.get(key, func(k providerKey) (r providerRow, err error) {
		if k.active {
			err = r.scan(s.row(ctx, s.hot.active, k.instance))
		} else {
			err = r.scan(s.row(ctx, s.hot.provider, k.instance, k.id))
		}
		return r, s.readFailed(ctx, err, emailprovider.ErrNotFound)
	})
	return row.clone(), err
}

func (s *sqliteEngine) token(ctx context.Context, hash [32]byte) (auth.Token, error) {
	t, err := s.tokens.get(hash, func(hash [32]byte) (auth.Token, error) {
		t, err := scanToken(s.row(ctx, s.hot.tokenByHash, hash[:]))
		t.Hash = hash
		return t, s.readFailed(ctx, err, auth.ErrNotFound)
	})
	t.Roles = slices.Clone(t.Roles) // nobody can change what is kept
	return t, err
}

// tokensOver implements engine: what was kept was dropped before the commit was over.
func (s *sqliteEngine) tokensOver() {}

func (s *sqliteEngine) message(ctx context.Context, instance, id string) scanner {
	return s.row(ctx, s.hot.message, instance, id)
}

// row runs a query that takes microseconds: watching a context would cost more.
func (s *sqliteEngine) row(ctx context.Context, stmt *sql.Stmt, args ...any) *sql.Row {
	return stmt.QueryRowContext(context.WithoutCancel(ctx), args...)
}

// readFailed returns what a store answers for the error of a read, none if there was no row.
func (s *sqliteEngine) readFailed(ctx context.Context, err, none error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return none
	}
	return failed(s.class, ctx, ctx, err)
}

func (s *sqliteEngine) cacheOf(c cached) interface{ drop(writes int) } {
	switch c {
	case cachedProviders:
		return s.providers
	case cachedTokens:
		return s.tokens
	case cachedAll:
		return caches{s.providers, s.tokens}
	}
	return nil
}

// caches are dropped together.
type caches []interface{ drop(writes int) }

func (all caches) drop(writes int) {
	for _, c := range all {
		c.drop(writes)
	}
}

func (s *sqliteEngine) class(err error) class { return s.classify(err) }

func sqliteClass(err error) class {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return otherError
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return uniqueViolation
	case sqlite3.SQLITE_IOERR_WRITE:
		// Also at a commit, which is nothing without its last page; only a sync that fails leaves it open.
		return readOnly
	}
	switch e.Code() & 0xff { // The low byte is the kind, the rest the detail.
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT:
		return locked
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return readOnly
	case sqlite3.SQLITE_FULL:
		return full
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM,
		sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB: // which is what it calls a file that it can't read, too
		return brokenIO
	}
	return otherError
}
