package sqlstore

import (
	"context"
	"database/sql"
)

// reader is what is read from: a pool, or one connection of it.
type reader interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	BeginTx(ctx context.Context, o *sql.TxOptions) (*sql.Tx, error)
}

// read runs f, which only reads, as engine.read says.
func (db *DB) read(ctx context.Context, f func(context.Context, reader) error) error {
	if err := db.engine.read(ctx, db.reader, f); err != nil {
		return db.failed(ctx, err)
	}
	return nil
}

// snapshot runs f in a transaction that reads everything as of one moment.
func (db *DB) snapshot(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	return db.read(ctx, func(ctx context.Context, from reader) error { return snapshotOf(ctx, from, f) })
}

// snapshotOf is snapshot of what is read from.
func snapshotOf(ctx context.Context, from reader, f func(context.Context, *sql.Tx) error) error {
	tx, err := from.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // Nothing was written.
	return f(ctx, tx)
}

// all reads all rows that a query answers.
func all[T any](ctx context.Context, db *DB, scan func(scanner) (T, error), query string, args ...any) (found []T, err error) {
	err = db.read(ctx, func(ctx context.Context, from reader) error {
		rows, err := from.QueryContext(ctx, query, args...)
		found, err = collect(rows, err, func() (T, error) { return scan(rows) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// collect reads all rows of a query, whose error it takes too.
func collect[T any](rows *sql.Rows, err error, scan func() (T, error)) (all []T, _ error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong.
	for rows.Next() {
		one, err := scan()
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// one is the row that a query answers; it is read when it is scanned.
func (db *DB) one(ctx context.Context, query string, args ...any) scanner {
	return scanning(func(dest ...any) error {
		return db.engine.read(ctx, db.reader, func(ctx context.Context, from reader) error {
			return from.QueryRowContext(ctx, query, args...).Scan(dest...)
		})
	})
}

// scanning implements scanner.
type scanning func(dest ...any) error

func (s scanning) Scan(dest ...any) error { return s(dest...) }
