package sqlstore

import (
	"database/sql"
	"errors"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// line is a connection within a transaction.
type line struct {
	executor
	changed bool // something, since somebody has set this to false

	ends *ends // of SQLite: PostgreSQL has its own way
}

// executor runs statements of one transaction. What stands in a query as /*pg … */ is for PostgreSQL
// only: SQLite has one writer at a time and no clauses for locks.
type executor interface {
	// run returns how many rows the statement touched.
	run(query string, args []any) (int64, error)
	// runAll is run for each of the rows of arguments, in as few round trips as can be.
	runAll(query string, rows [][]any) ([]int64, error)
	// pipelines reports whether runAll makes fewer round trips than run would.
	pipelines() bool
	// each calls f with each row that the query answers, until f wants no more. f can't use the line.
	each(query string, args []any, f func(scanner) (more bool, err error)) error
	// take claims the mails that are longest due, whatever holds them back.
	take(c outbox.ClaimRequest) ([]outbox.ClaimedMail, error)
}

// exec returns how many rows the statement touched.
func (l *line) exec(query string, args ...any) (n int64, err error) {
	n, err = l.run(query, args)
	l.changed = l.changed || n > 0
	return n, err
}

// execAll is exec for each of the rows of arguments.
func (l *line) execAll(query string, rows [][]any) ([]int64, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	l.changed = true
	return l.runAll(query, rows)
}

// claim takes mails.
func (l *line) claim(c outbox.ClaimRequest) ([]outbox.ClaimedMail, error) {
	l.changed = true
	return l.take(c)
}

// execOne is exec for a statement that must touch a row; the answer is none if it does not.
func (l *line) execOne(none error, query string, args ...any) error {
	n, err := l.exec(query, args...)
	if err == nil && n == 0 {
		return none
	}
	return err
}

// number returns the whole number that the query answers, or sql.ErrNoRows. The query may change rows.
func (l *line) number(query string, args ...any) (n int64, err error) {
	err = l.one(query, args, func(row scanner) error { return row.Scan(&n) })
	l.changed = l.changed || err == nil
	return n, err
}

// one calls f with the first row that the query answers; if there is none, the answer is sql.ErrNoRows.
func (l *line) one(query string, args []any, f func(scanner) error) error {
	none := true
	err := l.each(query, args, func(row scanner) (more bool, err error) {
		none = false
		return false, f(row)
	})
	if err == nil && none {
		return sql.ErrNoRows
	}
	return err
}

// exists reports whether the query answers a row.
func (l *line) exists(query string, args ...any) (bool, error) {
	err := l.one(query, args, func(scanner) error { return nil })
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
