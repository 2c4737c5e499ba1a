package sqlstore

import (
	"context"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// postgresLine is a transaction. pgx prepares each statement once for each connection.
type postgresLine struct {
	ctx context.Context
	tx  querier
}

// querier is a transaction, or the connection that has one.
type querier interface {
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// run implements executor.
func (l *postgresLine) run(query string, args []any) (int64, error) {
	tag, err := l.tx.Exec(l.ctx, forPostgres(query), args...)
	return tag.RowsAffected(), err
}

// runAll implements executor, in one round trip.
func (l *postgresLine) runAll(query string, rows [][]any) ([]int64, error) {
	var batch pgx.Batch
	touched := make([]int64, 0, len(rows))
	query = forPostgres(query)
	for _, args := range rows {
		batch.Queue(query, args...).Exec(func(tag pgconn.CommandTag) error {
			touched = append(touched, tag.RowsAffected())
			return nil
		})
	}
	err := l.tx.SendBatch(l.ctx, &batch).Close()
	return touched, err
}

// pipelines implements executor.
func (l *postgresLine) pipelines() bool { return true }

// each implements executor.
func (l *postgresLine) each(query string, args []any, f func(scanner) (more bool, err error)) error {
	rows, err := l.tx.Query(l.ctx, forPostgres(query), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		more, err := f(rows)
		if err != nil || !more {
			return err
		}
	}
	return rows.Err()
}

var postgresText sync.Map // of queries with parts for PostgreSQL only

// forPostgres returns the query with what only PostgreSQL is to see.
func forPostgres(query string) string {
	if !strings.Contains(query, "/*pg ") {
		return query
	}
	if text, ok := postgresText.Load(query); ok {
		return text.(string)
	}
	text := strings.NewReplacer("/*pg ", "", " */", "").Replace(query)
	postgresText.Store(query, text)
	return text
}
