package sqlstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// takeUp does the jobs that wait in a queue, at most so many, on one connection.
func takeUp[T any](p *postgresEngine, q *queue[T], most int, do func(context.Context, *pgx.Conn, []*job[T])) {
	ready := func(context.Context, *pgx.Conn) func(T) bool { return anything }
	takeUpFitting(p, q, most, ready, do)
}

// takeUpFitting is takeUp for the jobs that fit when ready returns.
func takeUpFitting[T any](p *postgresEngine, q *queue[T], most int,
	ready func(context.Context, *pgx.Conn) (fits func(T) bool), do func(context.Context, *pgx.Conn, []*job[T]),
) {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	conn, err := p.begin(ctx)
	if err == nil {
		defer conn.Release()
		fits := ready(ctx, conn.Conn())
		do(ctx, conn.Conn(), q.takeFitting(most, fits)) // only now: others have come meanwhile
		return
	}
	err = p.failedWrite(ctx, err)
	for _, j := range q.takeBegun(most) {
		j.finish(err)
	}
}

// together does jobs in one transaction and answers who waits for them. When the database refuses one of
// them, each is done by itself; explain says what that one's error means.
func together[T any](
	ctx context.Context, p *postgresEngine, jobs []*job[T], attempt func([]*job[T]) error, explain func(*job[T], error) error,
) {
	err := attempt(jobs)
	for p.class(err) == collided && ctx.Err() == nil {
		err = attempt(jobs)
	}
	if len(jobs) > 1 && divisible(ctx, p, err) {
		for i := range jobs {
			together(ctx, p, jobs[i:i+1], attempt, explain)
		}
		return
	}
	if explain != nil && err != nil {
		err = explain(jobs[0], err)
	}
	if err == nil && p.told != nil {
		p.told(len(jobs))
	}
	err = p.failedWrite(ctx, err)
	for _, j := range jobs {
		j.finish(err)
	}
}

// divisible reports whether err may be that of one change among several, the others of which can be made.
func divisible(ctx context.Context, p *postgresEngine, err error) bool {
	return err != nil && ctx.Err() == nil && !errors.Is(err, errOutcomeUnknown) && p.class(err) != brokenIO
}
