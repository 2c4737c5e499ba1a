package sqlstore

import (
	"context"
	"database/sql"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// engine is a database, and what differs between databases.
type engine interface {
	// class says what kind of failure err is.
	class(err error) class

	// read runs f, which only reads and may run again, on what it is given of the pool.
	read(ctx context.Context, pool *sql.DB, f func(context.Context, reader) error) error

	// write makes a change durable. When it returns an error nothing has changed, except for
	// errOutcomeUnknown. ctx and the store's patience bound the wait for it to begin, the patience
	// alone bounds it from then on.
	write(ctx context.Context, w write) error

	// These are the calls that services and workers make most: each database has its own way to be
	// quick at them.
	apply(ctx context.Context, c change) (sequence uint64, err error)
	accept(ctx context.Context, m *acceptance) (taken outbox.Message, err error)
	provider(ctx context.Context, key providerKey) (providerRow, error)
	token(ctx context.Context, hash [32]byte) (auth.Token, error) // or auth.ErrNotFound
	claim(ctx context.Context, c outbox.ClaimRequest) (outbox.Claim, error)
	settle(ctx context.Context, rows []settlementRow) error // sets refused
	message(ctx context.Context, instance, id string) scanner

	// eventsOf reads the events of a provider after a sequence, at most so many, in their order.
	eventsOf(ctx context.Context, from reader, instance, provider string, after uint64, limit int) ([]emailprovider.Event, error)

	// epoch counts the servers that have taken over, as far as they were seen. What one of them said may
	// not be known to the next, which then counts on from where it is.
	epoch() uint32

	// tokensOver waits, after a commit that has taken tokens away or changed them, until no process answers
	// with what they were.
	tokensOver()

	// erase takes what committed changes have deleted out of the database's journals too, as far as
	// readers under way allow.
	erase(ctx context.Context) error

	// setUp runs f while no other process does.
	setUp(ctx context.Context, f func() error) error

	close() error
}

// write is a change of the database.
type write struct {
	// do may run more than once, and after its caller was answered with errOutcomeUnknown: what it
	// sets is to be read only when the answer was nil.
	do func(*line) error

	// clean: do seldom fails after it has changed something. It is spared a savepoint; when it does
	// fail so, everything it shares a transaction with is done again.
	clean bool

	of cached // what it changes
}

// cached is something that a cache may keep.
type cached int

const (
	cachedNothing cached = iota
	cachedProviders
	cachedTokens
	cachedAll
)

// write runs f in a transaction, as engine.write says.
func (db *DB) write(ctx context.Context, f func(*line) error) error {
	return db.engine.write(ctx, write{do: f})
}

// writeClean is write for an f that seldom fails after it has changed something.
func (db *DB) writeClean(ctx context.Context, f func(*line) error) error {
	return db.engine.write(ctx, write{do: f, clean: true})
}
