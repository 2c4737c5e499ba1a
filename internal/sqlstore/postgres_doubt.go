package sqlstore

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// A change that is given up while it waits for a standby keeps its session at the server, and its locks,
// until the standby has it: nothing else may end it. So that such sessions do not pile up until nobody can
// connect any more, no change is begun while there are any. That is looked at only when in doubt: when one
// was given up here, until there are none.

var errStandby = fault.New(fault.Unavailable, "MAILKEEP-STORE",
	"the store waits for its standby, which does not answer; try again later")

// selectStuck says whether commits of ours wait for longer than so many seconds.
const selectStuck = `SELECT EXISTS (SELECT FROM pg_stat_activity
	WHERE datname = current_database() AND usename = current_user AND wait_event = 'SyncRep'
		AND query_start < clock_timestamp() - make_interval(secs => $1))`

// begin returns a connection to make a change on.
func (p *postgresEngine) begin(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil || !p.doubt.Load() {
		return conn, err
	}
	var stuck bool
	err = conn.QueryRow(ctx, selectStuck, p.patience.Seconds()*3/4).Scan(&stuck)
	switch {
	case err != nil:
	case stuck:
		err = errStandby
	default:
		p.doubt.Store(false)
		return conn, nil
	}
	conn.Release()
	return nil, err
}

// givenUp takes note of a change whose outcome is unknown.
func (p *postgresEngine) givenUp(err error) {
	if pgconn.Timeout(err) {
		p.doubt.Store(true)
	}
}
