package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// mostSettling is how many callers' settlements are recorded in one transaction.
const mostSettling = 16

// settleMails is what settler does for each mail, but for the uses of credentials; it answers the numbers of
// those that it has settled. For its plan see takeDue.
const settleMails = `WITH held AS MATERIALIZED (
		SELECT s.*, m.t FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
			$9::bigint[], $10::text[], $11::bigint[], $12::text[], $13::boolean[], $14::boolean[]) WITH ORDINALITY AS s (
			instance, id, fence, state, due, at, reason, recipients, attempts, provider_id, version, attempt, erase, refused, n)
		CROSS JOIN LATERAL (
			SELECT m.ctid AS t FROM messages AS m
			WHERE m.instance = s.instance AND m.id = s.id AND m.fence = s.fence AND m.state = 'sending' OFFSET 0) AS m
	), done AS (
		UPDATE messages AS m SET state = h.state, open = h.state = 'queued', changed = h.at, reason = h.reason,
			due = CASE WHEN h.refused AND NOT EXISTS (
				SELECT 1 FROM providers AS p WHERE p.instance = h.instance AND p.id = h.provider_id AND p.credential_version = h.version)
				THEN h.at ELSE h.due END,
			last_attempt = CASE WHEN h.state = 'queued' THEN m.last_attempt ELSE h.attempt END,
			recipients = COALESCE(h.recipients, m.recipients), attempts = m.attempts + h.attempts,
			provider_id = COALESCE(h.provider_id, m.provider_id),
			credential_version = COALESCE(h.version, m.credential_version), fence = m.fence + 1, changed_in = txid_current()
		FROM held AS h WHERE m.ctid = h.t AND m.fence = h.fence AND m.state = 'sending'
		RETURNING h.n, h.instance, h.id, h.state, h.attempt, h.erase, m.attempts
	), tried AS (
		INSERT INTO attempts (instance, id, number, record)
		SELECT instance, id, attempts, attempt FROM done WHERE state = 'queued' AND attempt IS NOT NULL
	), contents AS MATERIALIZED (
		SELECT c.t FROM done AS d CROSS JOIN LATERAL (
			SELECT c.ctid AS t FROM message_contents AS c WHERE c.instance = d.instance AND c.id = d.id OFFSET 0) AS c
		WHERE d.erase
	), erased AS (
		DELETE FROM message_contents AS c USING contents AS e WHERE c.ctid = e.t
	)
	SELECT n FROM done`

func (p *postgresEngine) settle(ctx context.Context, rows []settlementRow) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	return p.settlements.await(ctx, p.patience, &job[[]settlementRow]{ask: rows})
}

// settleQueue records the settlements that wait.
func (p *postgresEngine) settleQueue() {
	takeUp(p, &p.settlements, mostSettling, p.settleTogether)
}

func (p *postgresEngine) settleTogether(ctx context.Context, conn *pgx.Conn, jobs []*job[[]settlementRow]) {
	together(ctx, p, jobs, func(jobs []*job[[]settlementRow]) error { return p.settleBatch(ctx, conn, jobs) }, nil)
}

// settleBatch records settlements in one transaction.
func (p *postgresEngine) settleBatch(ctx context.Context, conn *pgx.Conn, jobs []*job[[]settlementRow]) error {
	var s settling
	for _, j := range jobs {
		s.add(j.ask)
	}
	return p.attemptTrips(ctx, conn, trips{s.ask, s.judge})
}

// settling is settlements that are recorded together.
type settling struct {
	rows []*settlementRow
	done []bool // by settleMails
}

func (s *settling) add(rows []settlementRow) {
	for i := range rows {
		s.rows = append(s.rows, &rows[i])
	}
	slices.SortStableFunc(s.rows, func(a, b *settlementRow) int { return inOrder(a.Lease, b.Lease) })
}

func (s *settling) ask(b *pgx.Batch) {
	s.done = make([]bool, len(s.rows)) // not those of an attempt before
	var (
		instances, ids, states, reasons []string
		fences, dues, times             []int64
		recipients, providers, records  []sql.NullString
		attempts                        []int
		versions                        []sql.NullInt64
		erase, refused                  []bool
	)
	for _, r := range s.rows {
		instances, ids, fences = append(instances, r.Instance), append(ids, r.ID), append(fences, signed(r.Fence))
		states, dues, times = append(states, string(r.State)), append(dues, r.due()), append(times, micros(r.At))
		reasons, recipients = append(reasons, r.Reason), append(recipients, r.recipients)
		attempts, providers, versions = append(attempts, r.attempts), append(providers, r.providerID), append(versions, r.version)
		records, erase, refused = append(records, r.attempt), append(erase, r.erases()), append(refused, r.blames())
		if r.blames() {
			b.Queue(forPostgres(selectVersion), r.Instance, r.Attempt.ProviderID) // which holds it as it is
		}
	}
	b.Queue(settleMails, instances, ids, fences, states, dues, times, reasons, recipients, attempts, providers, versions,
		records, erase, refused).Query(s.read)
}

func (s *settling) read(rows pgx.Rows) error {
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return err
		}
		s.done[n-1] = true
	}
	return rows.Err()
}

// judge sees to the rest one by one: nobody holds these any more, or they were changed just then.
func (s *settling) judge(l *line, last *pgx.Batch) error {
	one := settler{line: l}
	var rest []*settlementRow
	for i, r := range s.rows {
		if !s.done[i] {
			rest = append(rest, r)
			continue
		}
		r.refused = false
		one.uses.add(r.Settlement)
	}
	if err := one.settle(rest); err != nil {
		return err
	}
	if err := one.eraseContents(); err != nil {
		return err
	}
	for _, use := range one.uses.rows() {
		last.Queue(upsertCredentialUse, use...)
	}
	return nil
}
