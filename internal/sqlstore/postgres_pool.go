package sqlstore

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// generation is the key of a connection's own data for how often the pool was renewed before it.
const generation = "mailkeep.generation"

// renewing is a pool whose connections are all replaced when one has broken: what breaks one, a server or
// a network, has mostly broken the others too, and to find that out costs each its time.
type renewing struct {
	mu     sync.Mutex
	pool   *pgxpool.Pool
	number int // of renewals
}

func (r *renewing) use(pool *pgxpool.Pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pool = pool
}

// join makes the connection one of the present generation.
func (r *renewing) join(conn *pgconn.PgConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn.CustomData()[generation] = r.number
}

// leave is for a connection that is being closed.
func (r *renewing) leave(conn *pgx.Conn) {
	if !conn.IsClosed() {
		return
	}
	// It has broken. pgx would hear its server out, for 15 seconds if that hangs, and count it until then.
	_ = conn.PgConn().Conn().Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if conn.PgConn().CustomData()[generation] == r.number {
		r.renewLocked()
	}
}

// renew replaces all connections; those in use when they are given back.
func (r *renewing) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewLocked()
}

func (r *renewing) renewLocked() {
	r.number++
	if r.pool != nil {
		r.pool.Reset()
	}
}

var errNoCancel = errors.New("sqlstore: requests to cancel are not sent")

// withoutCancel keeps pgx from having the server cancel what a connection was given up at. A change that
// waits for its standby would be ended there as made: others would see it, and it would be gone with this
// server.
func withoutCancel(c *pgconn.Config) {
	var connected atomic.Bool
	dial, validate := c.DialFunc, c.ValidateConnect
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() {
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
	c.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		err := validate(ctx, conn)
		connected.Store(err == nil)
		return err
	}
}
