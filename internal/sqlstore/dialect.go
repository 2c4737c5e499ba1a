package sqlstore

import (
	"context"
	"database/sql"
)

// dialect is what differs between databases besides how they are opened.
type dialect interface {
	// class says what kind of failure err is.
	class(err error) class

	// statementContext returns the context that short statements run under. Watching a context
	// has a price; a database in this process need not pay it for statements that take
	// microseconds.
	statementContext(ctx context.Context) context.Context

	// erase takes what committed changes have deleted out of the database's journals too, as far as
	// readers under way allow.
	erase(ctx context.Context, writer *sql.DB) error
}
