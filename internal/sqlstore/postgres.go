package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
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

	// pingTimeout is how long a connection that was not used for a while may take to show that it lives.
	pingTimeout = time.Second

	// connections is how many a process has at most, if the URL has no pool_max_conns: callers share
	// round trips, so that few serve many.
	connections = 12
)

// sessionSettings are given to every connection. A process that hangs or is cut off must not keep its
// locks for ever, and a change that nobody waits for any more must not be made much later. Statements get the
// plans that the indexes were made for, once, and keep them: statistics can be of a time when tables were small.
const sessionSettings = `
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET statement_timeout = '5s';
SET idle_in_transaction_session_timeout = '5s';
SET tcp_user_timeout = '10s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
`

// checkClients has the server end what a client waits for that has gone. Servers before version 14 and some
// operating systems can't: there statement_timeout alone does.
const checkClients = `SET client_connection_check_interval = '1s'`

// OpenPostgres opens the database that url names (postgres://…, several hosts allowed) and brings its
// schema up to date. Any number of processes may have it open: none uses what another has changed (for tokens
// see leases). An error never has the URL in it.
func OpenPostgres(ctx context.Context, url string, o Options) (*DB, error) {
	config, f, err := postgresConfig(url, o)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: PostgreSQL: %w", err)
	}
	f.connections.use(pool)
	db := &DB{reader: stdlib.OpenDBFromPool(pool), engine: newPostgres(pool, f, o), now: o.Now}
	if db.now == nil {
		db.now = time.Now
	}
	if _, err := migratePostgres(ctx, config, o); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	f.survey.patrol()
	return db, nil
}

// MigratePostgres brings the schema up to date and returns its version.
func MigratePostgres(ctx context.Context, url string, o Options) (version int64, err error) {
	config, f, err := postgresConfig(url, o)
	if err != nil {
		return 0, err
	}
	defer f.survey.close()
	return migratePostgres(ctx, config, o)
}

// postgresConfig reads the URL and adds what is the same for everybody.
func postgresConfig(url string, o Options) (*pgxpool.Config, *fence, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, nil, errors.New("sqlstore: the URL of the database can't be understood; it looks like postgres://user@host1,host2/name?sslmode=verify-full")
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
	config.MaxConns = max(config.MaxConns, 2) // who sets something up has one, and what it does takes another
	config.PingTimeout = pingTimeout
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &fence{unsafe: o.UnsafeDurability, optional: checkClients, log: log}
	f.survey.init(hostsOf(c), c.ConnectTimeout, f.admit, log)
	f.guard(config)
	return config, f, nil
}

// migratePostgres brings the schema up to date over connections of its own, without the timeouts that
// changes have.
func migratePostgres(ctx context.Context, config *pgxpool.Config, o Options) (version int64, err error) {
	config = config.Copy()
	config.MaxConns = 2 // one has the lock
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SET statement_timeout = 0`)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }() // Nothing hangs on it.
	first, cancel := context.WithTimeout(ctx, o.patience())
	defer cancel()
	if err := db.PingContext(first); err != nil {
		return 0, reachable(err)
	}
	err = alone(ctx, pool, migrating, o.patience(), func() (err error) {
		version, err = migrate(ctx, db, goose.DialectPostgres, o)
		return err
	})
	return version, err
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
