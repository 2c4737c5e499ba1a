package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

const (
	// postgresPatience bounds a change, and every other use of PostgreSQL: a server's own timeouts do
	// not end the wait for a synchronous standby.
	postgresPatience = 5 * time.Second

	// connectTimeout bounds the connection to each host, if the URL has no connect_timeout.
	connectTimeout = 2 * time.Second

	// connections is how many a process has at most, if the URL has no pool_max_conns: callers share
	// round trips, so that few serve many.
	connections = 12
)

// sessionSettings are given to every connection. A process that hangs or is cut off must not keep its
// locks for ever, a change that nobody waits for any more must not be made much later, and a statement
// keeps the plan that its indexes were made for.
const sessionSettings = `
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET statement_timeout = '5s';
SET idle_in_transaction_session_timeout = '5s';
SET client_connection_check_interval = '1s';
SET tcp_user_timeout = '10s';
SET plan_cache_mode = force_generic_plan;
SET jit = off;
`

// OpenPostgres opens the database that url names (postgres://…, several hosts allowed) and brings its
// schema up to date. Any number of processes may have it open: none keeps anything that another may
// change. An error never has the URL in it.
func OpenPostgres(ctx context.Context, url string, o Options) (*DB, error) {
	config, err := postgresConfig(url)
	if err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &fence{hosts: hostsOf(config.ConnConfig), unsafe: o.UnsafeDurability, log: log}
	f.guard(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: PostgreSQL: %w", err)
	}
	db := &DB{reader: stdlib.OpenDBFromPool(pool), engine: newPostgres(pool, f), now: o.Now}
	if db.now == nil {
		db.now = time.Now
	}
	if err := migratePostgres(ctx, config, o); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	f.patrol()
	return db, nil
}

// postgresConfig reads the URL and the settings that are the same for everybody.
func postgresConfig(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("sqlstore: the URL of the database can't be understood; it looks like postgres://user@host1,host2/name?sslmode=verify-full")
	}
	c := config.ConnConfig
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	c.DialFunc = dialer(c.ConnectTimeout).DialContext
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "mailkeep"
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = connections
	}
	config.PingTimeout = connectTimeout
	return config, nil
}

// migratePostgres brings the schema up to date over a connection of its own, without the timeouts that
// changes have.
func migratePostgres(ctx context.Context, config *pgxpool.Config, o Options) error {
	c := config.ConnConfig.Copy()
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return conn.Exec(ctx, `SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0`).Close()
	}
	db := sql.OpenDB(stdlib.GetConnector(*c))
	defer func() { _ = db.Close() }() // Nothing hangs on it.
	db.SetMaxOpenConns(2)             // one has the lock
	if err := db.PingContext(ctx); err != nil {
		return reachable(err)
	}
	return withLock(ctx, db, migrating, func() error { return migrate(ctx, db, goose.DialectPostgres, o) })
}

// reachable is the error of a first connection, without what it says of the URL.
func reachable(err error) error {
	var refused *refusal
	var server *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &server):
		return fmt.Errorf("sqlstore: PostgreSQL refuses the connection: %s (SQLSTATE %s)", server.Message, server.Code)
	case errors.Is(err, context.Canceled):
		return err
	}
	return errBroken.Because(err)
}

// Numbers of advisory locks, which have no other meaning.
const (
	migrating = 0x6d6b0001
	settingUp = 0x6d6b0002
)

// withLock runs f while no other process runs one with the same lock.
func withLock(ctx context.Context, db *sql.DB, lock int64, f func() error) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// Of the transaction: whatever happens to it, the lock is not left to a pool.
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // Nothing was changed.
	if _, err := tx.ExecContext(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lock); err != nil {
		return err
	}
	return f()
}
