package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// postgresEngine is a PostgreSQL database, which other processes write to as well. What callers do at the
// same time shares round trips and commits.
type postgresEngine struct {
	pool     *pgxpool.Pool
	fence    *fence
	patience time.Duration // for each use of the database, waiting included

	told         func(writes int) // of commits; may be nil
	lockPatience time.Duration    // for what other processes do alone

	changes     queue[*changing]
	turn        turn // at changes
	mails       queue[*accepting]
	settlements queue[[]settlementRow]
	providers   *lookup[providerKey, providerRow]
	tokens      *lookup[[32]byte, auth.Token]
	leases      *leases     // of tokens
	doubt       atomic.Bool // whether changes that were given up are stuck
}

func newPostgres(pool *pgxpool.Pool, f *fence, o Options) *postgresEngine {
	p := &postgresEngine{pool: pool, fence: f, told: o.Committed, patience: postgresPatience, lockPatience: o.patience()}
	p.changes.run = p.applyQueue
	p.mails.run = p.acceptQueue
	p.settlements.run = p.settleQueue
	p.providers = newLookup(p, findProviders)
	p.tokens = newLookup(p, findTokens)
	p.leases = newLeases()
	return p
}

func (p *postgresEngine) setUp(ctx context.Context, f func() error) error {
	return alone(ctx, p.pool, settingUp, p.lockPatience, f)
}

// epoch implements engine: each takeover begins a timeline.
func (p *postgresEngine) epoch() uint32 { return p.fence.epoch() }

func (p *postgresEngine) close() error {
	p.fence.survey.close()
	p.pool.Close()
	return nil
}

// write makes a change in a transaction of its own.
func (p *postgresEngine) write(ctx context.Context, w write) error {
	return p.insist(ctx, func(bounded context.Context, conn *pgxpool.Conn) error { return p.attempt(bounded, conn, w.do) })
}

// insist makes an attempt at a change, again if another got in its way.
func (p *postgresEngine) insist(ctx context.Context, attempt func(context.Context, *pgxpool.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.patience)
	defer cancel()
	for {
		conn, err := p.acquire(ctx, bounded)
		if err != nil {
			return err
		}
		err = attempt(bounded, conn)
		conn.Release()
		if p.class(err) != collided || bounded.Err() != nil {
			return p.failedWrite(bounded, err)
		}
	}
}

// acquire returns a connection; ctx, the caller's, bounds the wait for it too.
func (p *postgresEngine) acquire(ctx, bounded context.Context) (*pgxpool.Conn, error) {
	waiting, cancel := context.WithCancelCause(bounded)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	defer stop()
	conn, err := p.begin(waiting)
	if err != nil {
		return nil, failed(p.class, ctx, waiting, err)
	}
	return conn, nil
}

// attempt makes a change in one transaction.
func (p *postgresEngine) attempt(ctx context.Context, conn *pgxpool.Conn, do func(*line) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // After a commit it does nothing; if it fails the connection is closed.
	if err := do(&line{executor: &postgresLine{ctx, tx}}); err != nil {
		return err
	}
	return p.committed(conn.Conn(), tx.Commit(ctx))
}

// committed returns the outcome of a commit: nil only if it was made, and is where it must be.
func (p *postgresEngine) committed(conn *pgx.Conn, err error) error {
	switch {
	case !replicated(conn):
		return errOutcomeUnknown.Because(errors.New("the wait for a standby was cancelled"))
	case err == nil && !p.fence.believes(conn):
		return errOutcomeUnknown.Because(errors.New("another server has taken over meanwhile"))
	case err == nil, undone(err):
		return err
	}
	p.givenUp(err)
	return errOutcomeUnknown.Because(err)
}

// undone reports whether err says that nothing was changed: the server has said so and goes on, or it
// was not asked yet.
func undone(err error) bool {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.SeverityUnlocalized == "ERROR"
	}
	return errors.Is(err, pgx.ErrTxCommitRollback) || pgconn.SafeToRetry(err)
}

// failedWrite is failed for a change that does not depend on its caller any more.
func (p *postgresEngine) failedWrite(bounded context.Context, err error) error {
	if err == nil {
		return nil
	}
	return failed(p.class, context.Background(), bounded, err)
}

// erase has nothing to do: PostgreSQL's log is cleared in its own time, and is in the hands of those who
// have the database's disk.
func (p *postgresEngine) erase(context.Context) error { return nil }

func (p *postgresEngine) message(ctx context.Context, instance, id string) scanner {
	return p.row(ctx, selectMessage, instance, id)
}

const eventsOfOne = selectEvents + ` AND provider_id = $4 ORDER BY sequence LIMIT $3`

func (p *postgresEngine) eventsOf(ctx context.Context, from reader, instance, provider string, after uint64, limit int) ([]emailprovider.Event, error) {
	rows, err := from.QueryContext(ctx, eventsOfOne, instance, signed(after), limit, provider)
	return eventsIn(rows, err, instance)
}

// class implements engine by the SQLSTATE, or its first two characters (PostgreSQL, appendix A). What has
// made an outcome unknown has no class: nothing that has one may be done again for it.
func (p *postgresEngine) class(err error) class {
	if errors.Is(err, errOutcomeUnknown) {
		return otherError
	}
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		if err != nil && lost(err) {
			return brokenIO
		}
		return otherError
	}
	switch server.Code {
	case "23505": // unique_violation
		return uniqueViolation
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return collided
	case "25006": // read_only_sql_transaction
		return readOnly
	case "53100": // disk_full
		return full
	case "55P03", "57014", "25P03": // lock_not_available, query_canceled, idle_in_transaction_session_timeout
		return locked
	}
	switch server.Code[:2] {
	case "53": // insufficient resources
		return locked
	case "08", "57", "58": // connection, operator intervention, system error
		return brokenIO
	}
	return otherError
}

// lost reports whether err is about the connection, or there is none to be had.
func lost(err error) bool {
	var connecting *pgconn.ConnectError
	var refused *refusal
	return errors.As(err, &connecting) || errors.As(err, &refused) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, pgx.ErrTxClosed) || isNetwork(err)
}
