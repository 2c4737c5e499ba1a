package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// copyBatch is how many rows are copied in a transaction, and copyBytes how much of them at most, but for
// the last row: what an interruption costs.
const (
	copyBatch = 5000
	copyBytes = 8 << 20
)

// table copies the rest of a table, a batch and how far it reaches in each transaction.
func (c *copying) table(ctx context.Context, t *copiedTable) error {
	var position int64
	if err := c.to.reader.QueryRowContext(ctx, selectPosition, t.name).Scan(&position); err != nil {
		return c.to.failed(ctx, err)
	}
	var before int64
	if err := c.from.reader.QueryRowContext(ctx, `SELECT count(*) FROM `+t.name+` WHERE rowid <= $1`, position).Scan(&before); err != nil {
		return err
	}
	c.step(t, before)
	for {
		batch, last, err := c.batch(ctx, t, position)
		if err != nil || len(batch) == 0 {
			return err
		}
		err = pgx.BeginFunc(ctx, c.target.pool, func(tx pgx.Tx) error {
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromRows(batch)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, updatePosition, t.name, last)
			return err
		})
		if err != nil {
			return failed(c.target.class, ctx, ctx, err)
		}
		position = last
		c.step(t, int64(len(batch)))
	}
}

// batch reads the rows after a position, and the position of the last of them.
func (c *copying) batch(ctx context.Context, t *copiedTable, after int64) (batch [][]any, last int64, err error) {
	size := 0
	err = c.rows(ctx, `SELECT rowid, `+t.list()+` FROM `+t.name+` WHERE rowid > $1 ORDER BY rowid LIMIT $2`, func(row []any) bool {
		last = row[0].(int64)
		values := t.values(row[1:])
		batch = append(batch, values)
		for _, v := range values {
			size += 8
			switch v := v.(type) {
			case string:
				size += len(v)
			case []byte:
				size += len(v)
			}
		}
		return size < copyBytes
	}, after, copyBatch)
	return batch, last, err
}

// rows calls f with the rows of a query of the source, until it wants no more.
func (c *copying) rows(ctx context.Context, query string, f func(row []any) (more bool), args ...any) error {
	rows, err := c.from.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		row := make([]any, len(columns))
		to := make([]any, len(columns))
		for i := range row {
			to[i] = &row[i]
		}
		if err := rows.Scan(to...); err != nil {
			return err
		}
		if !f(row) {
			return nil
		}
	}
	return rows.Err()
}

func (c *copying) step(t *copiedTable, rows int64) {
	c.done += rows
	if c.progress != nil {
		c.progress(t.name, c.done, 2*c.all) // each row is copied and compared
	}
}

// digest is the sum of the hashes of rows, in whatever order, and how many they are.
type digest struct {
	sum  [4]uint64
	rows int64
}

func (d *digest) add(row []any) {
	h := sha256.New()
	for _, v := range row {
		if n, ok := v.(int64); ok {
			v = uint64(n)
		}
		_, _ = fmt.Fprintf(h, "%T:%v;", v, v) // never fails
	}
	sum := h.Sum(nil)
	for i := range d.sum {
		d.sum[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
	d.rows++
}

// compare reads a table at both ends and fails unless they have the same rows.
func (c *copying) compare(ctx context.Context, t *copiedTable) error {
	var source, target digest
	err := c.rows(ctx, `SELECT `+t.list()+` FROM `+t.name, func(row []any) bool {
		source.add(t.values(row))
		return true
	})
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, c.target.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT `+t.list()+` FROM `+t.name)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			row, err := rows.Values()
			if err != nil {
				return err
			}
			target.add(row)
		}
		return rows.Err()
	})
	if err != nil {
		return failed(c.target.class, ctx, ctx, err)
	}
	if source != target {
		return fmt.Errorf("the target has %d rows and the source %d, or they differ: copy to a new database", target.rows, source.rows)
	}
	c.step(t, t.rows)
	return nil
}
