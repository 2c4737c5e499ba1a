package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// sqliteLine is the writer's connection within a transaction. Its statements run past database/sql,
// which takes more than a third of the time that many small ones need, and half of their memory. They
// are prepared once.
type sqliteLine struct {
	conn *sql.Conn
	over bool // the transaction; under the lock of conn.Raw

	until time.Time // when it is to be over

	// The statement that is run, and how many rows it has touched.
	query   string
	args    []any
	touched int64
	execute func(conn any) error
}

func newSQLiteLine(conn *sql.Conn, until time.Time) *sqliteLine {
	l := &sqliteLine{conn: conn, until: until}
	l.execute = l.onConn // once, for all statements
	return l
}

// run implements executor.
func (l *sqliteLine) run(query string, args []any) (int64, error) {
	l.query, l.args = query, args
	err := l.conn.Raw(l.execute)
	l.args = nil
	return l.touched, err
}

// onConn runs the statement.
func (l *sqliteLine) onConn(conn any) (err error) {
	l.touched = 0
	if l.over {
		return sql.ErrTxDone
	}
	l.touched, err = conn.(*hotConn).exec(l.query, l.args)
	return err
}

// runAll implements executor.
func (l *sqliteLine) runAll(query string, rows [][]any) ([]int64, error) {
	touched := make([]int64, len(rows))
	for i, args := range rows {
		var err error
		if touched[i], err = l.run(query, args); err != nil {
			return nil, err
		}
	}
	return touched, nil
}

// pipelines implements executor: there are no round trips.
func (l *sqliteLine) pipelines() bool { return false }

// each implements executor.
func (l *sqliteLine) each(query string, args []any, f func(scanner) (more bool, err error)) error {
	return l.inside(func(c *hotConn) error {
		rows, err := c.query(query, args)
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

// take implements executor.
func (l *sqliteLine) take(c outbox.ClaimRequest) ([]outbox.ClaimedMail, error) {
	return take(&line{executor: l}, c)
}

// inside runs f while nobody else has the connection, unless the transaction is over.
func (l *sqliteLine) inside(f func(*hotConn) error) error {
	return l.conn.Raw(func(conn any) error {
		if l.over {
			return sql.ErrTxDone
		}
		return f(conn.(*hotConn))
	})
}

// begin begins the transaction.
func (l *sqliteLine) begin() error {
	_, err := l.run(`BEGIN IMMEDIATE`, nil)
	return err
}

// commit ends the transaction, if it returns nil.
func (l *sqliteLine) commit() error {
	return l.inside(func(c *hotConn) error {
		_, err := c.exec(`COMMIT`, nil)
		l.over = err == nil
		return err
	})
}

// end undoes the transaction, whoever is using it, unless SQLite has done so already. A connection on which
// that fails is discarded.
func (l *sqliteLine) end() {
	_ = l.inside(func(c *hotConn) error {
		l.over = true
		if _, err := c.exec(`ROLLBACK`, nil); err != nil && !strings.Contains(err.Error(), "no transaction is active") {
			return driver.ErrBadConn
		}
		return nil
	})
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

// driverStmt is what a driver's statements can do.
type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// hotStmt is a prepared statement.
type hotStmt struct {
	driverStmt
	order []int // which argument each parameter is
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
	text, order, err := positional(query)
	if err != nil {
		return hotStmt{}, err
	}
	s, err := c.PrepareContext(context.Background(), text)
	if err != nil {
		return hotStmt{}, fmt.Errorf("sqlstore: prepare %q: %w", query, err)
	}
	able, ok := s.(driverStmt)
	if !ok {
		return hotStmt{}, errors.Join(fmt.Errorf("sqlstore: a %T can't do enough", s), s.Close())
	}
	c.prepared[query] = hotStmt{able, order}
	return c.prepared[query], nil
}

// exec runs a statement and returns how many rows it has touched.
func (c *hotConn) exec(query string, args []any) (touched int64, err error) {
	s, values, err := c.ready(query, args)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(context.Background(), values)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (c *hotConn) query(query string, args []any) (driver.Rows, error) {
	s, values, err := c.ready(query, args)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(context.Background(), values)
}

// ready returns a statement with its values.
func (c *hotConn) ready(query string, args []any) (s hotStmt, values []driver.NamedValue, err error) {
	if s, err = c.statement(query); err == nil {
		values, err = c.values(s.order, args)
	}
	return s, values, err
}

var parameter = regexp.MustCompile(`\$[0-9]+`)

// positional returns a query with each of its parameters $n as a ?, and which argument each of these is: of a
// parameter with a name, the driver fetches the name whenever it runs.
func positional(query string) (text string, order []int, err error) {
	text = parameter.ReplaceAllStringFunc(query, func(name string) string {
		n, convErr := strconv.Atoi(name[1:])
		if convErr != nil || n < 1 {
			err = fmt.Errorf("sqlstore: parameter %s of %q", name, query)
		}
		order = append(order, n-1)
		return "?"
	})
	return text, order, err
}

// values converts args to what drivers take, in the order of the statement's parameters.
func (c *hotConn) values(order []int, args []any) ([]driver.NamedValue, error) {
	clear(c.args) // No secret stays.
	c.args = c.args[:0]
	for i, n := range order {
		if n >= len(args) {
			return nil, fmt.Errorf("sqlstore: argument %d is missing", n+1)
		}
		v, err := driver.DefaultParameterConverter.ConvertValue(args[n])
		if err != nil {
			return nil, fmt.Errorf("sqlstore: argument %d: %w", n+1, err)
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
