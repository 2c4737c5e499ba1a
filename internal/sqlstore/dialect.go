package sqlstore

import "context"

// dialect is what differs between databases besides how they are opened.
type dialect interface {
	// class says what kind of failure err is.
	class(err error) class

	// statementContext returns the context that short statements run under. Watching a context
	// has a price; a database in this process need not pay it for statements that take
	// microseconds.
	statementContext(ctx context.Context) context.Context
}
