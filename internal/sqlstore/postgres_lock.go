package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// Numbers of advisory locks, which have no other meaning.
const (
	migrating = 0x6d6b0001
	settingUp = 0x6d6b0002
)

// lockPatience is how long to wait for what another process does alone, unless Options say otherwise. The
// lock of one that is gone is free sooner, when the server notices.
const lockPatience = 30 * time.Second

func (o Options) patience() time.Duration { return cmp.Or(o.lockPatience, lockPatience) }

var errNotAlone = fault.New(fault.Unavailable, "MAILKEEP-STORE",
	"another process is setting the database up; try again when it is done")

// alone runs f while no other process runs one with the same lock, which is a transaction's, so that it
// ends with the connection at the latest.
func alone(ctx context.Context, pool *pgxpool.Pool, lock int64, patience time.Duration, f func() error) error {
	waiting, cancel := context.WithTimeout(ctx, patience+postgresPatience) // the server ends it first
	defer cancel()
	conn, err := pool.Acquire(waiting)
	if err != nil {
		return reachable(err)
	}
	defer conn.Release() // which closes one that is in a transaction
	tx, err := conn.Begin(waiting)
	if err != nil {
		return reachable(err)
	}
	if err := lockIn(waiting, tx, lock, patience); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), postgresPatience)
	defer cancel()
	if err := tx.Commit(ending); err != nil {
		return fmt.Errorf("the lock was lost meanwhile: %w", reachable(err))
	}
	return nil
}

// lockIn waits for a lock.
func lockIn(ctx context.Context, tx pgx.Tx, lock int64, patience time.Duration) error {
	for _, statement := range []string{
		`SET LOCAL statement_timeout = 0`, `SET LOCAL idle_in_transaction_session_timeout = 0`,
		`SET LOCAL lock_timeout = ` + strconv.FormatInt(patience.Milliseconds(), 10),
		`SELECT pg_advisory_xact_lock(` + strconv.FormatInt(lock, 10) + `)`,
	} {
		_, err := tx.Exec(ctx, statement)
		var server *pgconn.PgError
		switch {
		case errors.As(err, &server) && server.Code == "55P03": // lock_not_available
			return errNotAlone
		case err != nil:
			return reachable(err)
		}
	}
	return nil
}
