package sqlstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// trips is a change in two round trips where each statement by itself would make one.
type trips struct {
	// first queues the statements that the transaction begins with.
	first func(*pgx.Batch)
	// then decides on what they have answered. It may use the line, for more round trips, and queues
	// what goes with the commit: what is locked there is let go at once.
	then func(*line, *pgx.Batch) error
}

// travel makes a change.
func (p *postgresEngine) travel(ctx context.Context, t trips) error {
	return p.insist(ctx, func(bounded context.Context, conn *pgxpool.Conn) error {
		return p.attemptTrips(bounded, conn.Conn(), t)
	})
}

// leave ends a transaction that is not over.
func leave(ctx context.Context, c *pgx.Conn) {
	if c.PgConn().TxStatus() != 'I' && !c.IsClosed() {
		_, _ = c.Exec(ctx, "ROLLBACK") // If it fails the connection is closed.
	}
}

// attemptTrips makes a change in one transaction.
func (p *postgresEngine) attemptTrips(ctx context.Context, c *pgx.Conn, t trips) error {
	defer leave(ctx, c)
	var first, last pgx.Batch
	first.Queue("BEGIN")
	t.first(&first)
	if err := c.SendBatch(ctx, &first).Close(); err != nil {
		return err
	}
	if err := t.then(&line{executor: &postgresLine{ctx, c}}, &last); err != nil {
		return err
	}
	last.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return pgx.ErrTxCommitRollback
		}
		return nil
	})
	return p.committed(c, c.SendBatch(ctx, &last).Close())
}
