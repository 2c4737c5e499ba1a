package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// copied are the tables that a copy copies, what others refer to first.
var copied = []string{
	"instances", "instance_domains", "instance_keys", "removed_instances", "key_checks", "providers", "events", "tokens", "revoked_tokens", "deprecated_uses",
	"messages", "message_recipients", "message_contents", "attempts", "credential_uses",
}

// Why a database can't be served.
var (
	errMoved = fault.New(fault.FailedPrecondition, "MAILKEEP-COPIED",
		"the embedded store was copied to PostgreSQL, or is being copied: start with --database-url, "+
			"or make it serve again with: mailkeep copy --abandon")
	errHalfCopied = fault.New(fault.FailedPrecondition, "MAILKEEP-COPIED",
		"the database holds a copy that is not finished: run mailkeep copy again")
)

const (
	selectCopy = `SELECT copy_id, finished FROM copies WHERE role = $1 AND table_name = ''`
	insertCopy = `INSERT INTO copies (role, table_name, copy_id, position, finished) VALUES ($1, $2, $3, 0, 0)
		ON CONFLICT (role, table_name) DO NOTHING`
	finishCopy     = `UPDATE copies SET finished = $2 WHERE role = $1 AND table_name = ''`
	abandonCopy    = `DELETE FROM copies WHERE role = 'source'`
	selectPosition = `SELECT position FROM copies WHERE role = 'target' AND table_name = $1`
	updatePosition = `UPDATE copies SET position = $2 WHERE role = 'target' AND table_name = $1`
)

// MayServe returns why the database must not be served: its content has moved elsewhere, or has not
// come here as a whole yet.
func (db *DB) MayServe(ctx context.Context) error {
	source, err := db.copyOf(ctx, "source")
	if err != nil {
		return err
	}
	target, err := db.copyOf(ctx, "target")
	switch {
	case err != nil:
		return err
	case source.id != "":
		return errMoved
	case target.id != "" && target.finished == 0:
		return errHalfCopied
	}
	return nil
}

// AbandonCopy lets the source of a copy serve again, whatever became of the copy. It reports whether it was
// one.
func (db *DB) AbandonCopy(ctx context.Context) (was bool, err error) {
	err = db.write(ctx, func(l *line) error {
		n, err := l.exec(abandonCopy)
		was = n > 0
		return err
	})
	return was, err
}

// aCopy is one end of a copy.
type aCopy struct {
	id       string // empty if it is none
	finished int64
}

func (db *DB) copyOf(ctx context.Context, role string) (c aCopy, err error) {
	err = db.reader.QueryRowContext(ctx, selectCopy, role).Scan(&c.id, &c.finished)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return c, db.failed(ctx, err)
	}
	return c, nil
}

// CopyProgress is told how far a copy is: what is copied or compared, and how much of all is done.
type CopyProgress func(table string, done, all int64)

// Copy copies everything from a store in a file to an empty one in PostgreSQL: ids, events and sequences
// are the same afterwards, and everything sealed opens with the same keyset. When it was interrupted it
// goes on where it was. Nobody else may have the source open; from the beginning of a copy on neither end
// can be served until it is finished, and the source not afterwards.
func Copy(ctx context.Context, from, to *DB, progress CopyProgress) (rows int64, err error) {
	source, ok := from.engine.(*sqliteEngine)
	if !ok {
		return 0, errors.New("sqlstore: only a store in a file can be copied")
	}
	target, ok := to.engine.(*postgresEngine)
	if !ok {
		return 0, errors.New("sqlstore: only PostgreSQL can be copied to")
	}
	c := &copying{from: from, to: to, source: source, target: target, progress: progress}
	if err := c.begin(ctx); err != nil {
		return 0, err
	}
	if err := c.count(ctx); err != nil {
		return 0, err
	}
	for _, t := range c.tables {
		if err := c.table(ctx, t); err != nil {
			return 0, fmt.Errorf("copy of %s: %w", t.name, err)
		}
	}
	for _, t := range c.tables {
		if err := c.compare(ctx, t); err != nil {
			return 0, fmt.Errorf("copy of %s: %w", t.name, err)
		}
	}
	return c.all, c.finish(ctx)
}

// copying is a copy under way.
type copying struct {
	from, to *DB
	source   *sqliteEngine
	target   *postgresEngine
	progress CopyProgress

	tables []*copiedTable
	all    int64 // rows, in the source
	done   int64
}

// copiedTable is a table and its columns, in the same order at both ends.
type copiedTable struct {
	name    string
	columns []string
	flags   []bool // which of them are BOOLEAN: SQLite has numbers for them
	rows    int64
}

// begin takes note of the copy at both ends, or finds the one that was interrupted.
func (c *copying) begin(ctx context.Context) error {
	source, err := c.from.copyOf(ctx, "source")
	if err != nil {
		return err
	}
	target, err := c.to.copyOf(ctx, "target")
	if err != nil {
		return err
	}
	switch {
	case target.id != "" && target.id != source.id:
		return fault.New(fault.FailedPrecondition, "MAILKEEP-COPIED", "the target holds a copy of another store, or of this one before it was abandoned")
	case target.id == "":
		if err := c.mustBeEmpty(ctx); err != nil {
			return err
		}
	}
	id := source.id
	if id == "" {
		id = rand.Text()
	}
	// The source first: from now on it does not change.
	err = c.from.write(ctx, func(l *line) error {
		_, err := l.exec(insertCopy, "source", "", id)
		return err
	})
	if err != nil || target.id != "" {
		return err
	}
	return c.to.write(ctx, func(l *line) error {
		if _, err := l.exec(`DELETE FROM instances`); err != nil { // the one that every new database has
			return err
		}
		for _, table := range append([]string{""}, copied...) {
			if _, err := l.exec(insertCopy, "target", table, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// mustBeEmpty refuses a target that was used.
func (c *copying) mustBeEmpty(ctx context.Context) error {
	for _, table := range copied {
		var n int64
		query := `SELECT count(*) FROM (SELECT 1 FROM ` + table + ` LIMIT 2) AS found`
		if err := c.to.reader.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return c.to.failed(ctx, err)
		}
		if n > 1 || n == 1 && table != "instances" {
			return fault.Newf(fault.FailedPrecondition, "MAILKEEP-COPIED", "the target is not empty: there is something in %s; copy to a new database", table)
		}
	}
	return nil
}

// count reads what there is to do.
func (c *copying) count(ctx context.Context) error {
	for _, name := range copied {
		t := &copiedTable{name: name}
		rows, err := c.from.reader.QueryContext(ctx, `SELECT name, type = 'BOOLEAN' FROM pragma_table_info($1) ORDER BY cid`, name)
		_, err = collect(rows, err, func() (none struct{}, err error) {
			var column string
			var flag bool
			err = rows.Scan(&column, &flag)
			t.columns, t.flags = append(t.columns, column), append(t.flags, flag)
			return none, err
		})
		if err != nil {
			return err
		}
		if err := c.from.reader.QueryRowContext(ctx, `SELECT count(*) FROM `+name).Scan(&t.rows); err != nil {
			return err
		}
		c.tables = append(c.tables, t)
		c.all += t.rows
	}
	return nil
}

func (t *copiedTable) list() string { return strings.Join(t.columns, ", ") }

// finish takes note of the end at both ends. The target first: until then the source may be abandoned.
func (c *copying) finish(ctx context.Context) error {
	now := micros(c.to.now())
	for _, end := range []struct {
		db   *DB
		role string
	}{{c.to, "target"}, {c.from, "source"}} {
		err := end.db.write(ctx, func(l *line) error {
			_, err := l.exec(finishCopy, end.role, now)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// values are a row as PostgreSQL takes it.
func (t *copiedTable) values(row []any) []any {
	values := slices.Clone(row)
	for i, flag := range t.flags {
		if n, ok := row[i].(int64); ok && flag {
			values[i] = n != 0
		}
	}
	return values
}
