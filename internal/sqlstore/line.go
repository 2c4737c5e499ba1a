package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
)

// line is the writer's connection within a transaction. Its own statements run past database/sql,
// which takes more than a third of the time that many small ones need, and half of their memory.
type line struct {
	tx   *sql.Tx
	conn *sql.Conn
	over bool // the transaction; under the lock of conn.Raw

	changed bool // something, since somebody has set this to false
}

// exec returns how many rows the statement touched. It is prepared once.
func (l *line) exec(query string, args ...any) (n int64, err error) {
	err = l.run(query, args, func(s hotStmt, values []driver.NamedValue) error {
		r, err := s.ExecContext(context.Background(), values)
		if err == nil {
			n, err = r.RowsAffected()
		}
		return err
	})
	l.changed = l.changed || n > 0
	return n, err
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

// each calls f with each row that the query answers, until f wants no more. f can't use the line.
func (l *line) each(query string, args []any, f func(scanner) (more bool, err error)) error {
	return l.run(query, args, func(s hotStmt, values []driver.NamedValue) error {
		rows, err := s.QueryContext(context.Background(), values)
		if err != nil {
			return err
		}
		row := make(rawRow, len(rows.Columns()))
		for more := true; more && err == nil; {
			if err = rows.Next(row); err == nil {
				more, err = f(row)
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return errors.Join(err, rows.Close())
	})
}

// run runs f with the prepared statement while nobody else has the connection, unless the
// transaction is over: the statement would then be one of its own.
func (l *line) run(query string, args []any, f func(hotStmt, []driver.NamedValue) error) error {
	return l.conn.Raw(func(conn any) error {
		if l.over {
			return sql.ErrTxDone
		}
		c := conn.(*hotConn)
		stmt, err := c.statement(query)
		if err != nil {
			return err
		}
		values, err := c.values(args)
		if err != nil {
			return err
		}
		return f(stmt, values)
	})
}

// end undoes the transaction, whoever is using it.
func (l *line) end() {
	_ = l.conn.Raw(func(any) error { l.over = true; return nil }) // Fails when all is over.
	_ = l.tx.Rollback()                                           // The connection is discarded if this fails.
}

// hotConnector hands out connections that a line can use.
type hotConnector struct{ driver.Connector }

// Connect implements driver.Connector.
func (c hotConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	able, ok := conn.(driverConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("sqlstore: a %T can't do enough", conn), conn.Close())
	}
	return &hotConn{driverConn: able, prepared: map[string]hotStmt{}}, nil
}

// driverConn is what a driver's connections can do that database/sql, or a line, asks for.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// hotStmt is what a driver's statements can do.
type hotStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// hotConn is a connection with the statements that were prepared on it.
type hotConn struct {
	driverConn
	prepared map[string]hotStmt
	args     []driver.NamedValue // of the last statement, to be used again
}

func (c *hotConn) statement(query string) (hotStmt, error) {
	if s, ok := c.prepared[query]; ok {
		return s, nil
	}
	s, err := c.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: prepare %q: %w", query, err)
	}
	able, ok := s.(hotStmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("sqlstore: a %T can't do enough", s), s.Close())
	}
	c.prepared[query] = able
	return able, nil
}

// values converts args to what drivers take.
func (c *hotConn) values(args []any) ([]driver.NamedValue, error) {
	clear(c.args) // No secret stays.
	c.args = c.args[:0]
	for i, arg := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: argument %d: %w", i+1, err)
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return c.args, nil
}

// Close implements driver.Conn.
func (c *hotConn) Close() error {
	var errs []error
	for _, s := range c.prepared {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.driverConn.Close())...)
}
