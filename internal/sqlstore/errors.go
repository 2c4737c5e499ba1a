package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// What callers are told when the machine below fails. All but the last say that nothing changed.
var (
	errBusy     = fault.New(fault.Unavailable, "MAILKEEP-STORE", "the store is busy, try again later")
	errReadOnly = fault.New(fault.Unavailable, "MAILKEEP-STORE", "the store can not be written to at present")
	errBroken   = fault.New(fault.Unavailable, "MAILKEEP-STORE", "the store can not be reached at present")
	errFull     = fault.New(fault.ResourceExhausted, "MAILKEEP-STORE", "the store has no space left")

	errOutcomeUnknown = fault.New(fault.Unavailable, "MAILKEEP-OUTCOME",
		"the store failed while saving; the change may or may not have been made").For("OUTCOME_UNKNOWN")
)

// class is what went wrong in a database, whichever it is.
type class int

const (
	otherError class = iota // a bug
	uniqueViolation
	collided // with another transaction: the same may succeed now
	locked
	readOnly
	full
	brokenIO
)

// failed turns the error of a read into what a store answers.
func (db *DB) failed(ctx context.Context, err error) error {
	return failed(db.engine.class, ctx, ctx, err)
}

// failed turns err into what a store answers. ctx is the caller's, bounded the one that was used.
func failed(classify func(error) class, ctx, bounded context.Context, err error) error {
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return err
	case ctx.Err() != nil && stopped(err):
		return fmt.Errorf("sqlstore: %w", ctx.Err())
	case bounded.Err() != nil && stopped(err):
		return errBusy.Because(err)
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone):
		return errBroken.Because(err)
	}
	switch classify(err) {
	case locked, collided:
		return errBusy.Because(err)
	case readOnly:
		return errReadOnly.Because(err)
	case full:
		return errFull.Because(err)
	case brokenIO:
		return errBroken.Because(err)
	}
	return err
}

// stopped reports whether err is how database/sql says that a context ended: as itself, or as a
// transaction that was rolled back under the statement.
func stopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, sql.ErrTxDone)
}
