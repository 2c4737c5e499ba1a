package sqlstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// mostChanges is how many changes share a transaction, and one round trip.
const mostChanges = 64

// changing is a change that somebody waits for.
type changing struct {
	change
	sent    changeRow
	applied uint64 // its sequence, once it is made
}

func (p *postgresEngine) apply(ctx context.Context, c change) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("sqlstore: %w", err)
	}
	ask := &changing{change: c, sent: newChangeRow(&c)}
	if err := p.changes.await(ctx, p.patience, &job[*changing]{ask: ask}); err != nil {
		return 0, err // what it has set is not to be read
	}
	return ask.applied, nil
}

// applyQueue makes the changes that wait.
func (p *postgresEngine) applyQueue() {
	var begun *held
	ready := func(ctx context.Context, conn *pgx.Conn) (fits func(*changing) bool) {
		begun = p.waitForTurn(ctx, conn)
		return begun.fits
	}
	takeUpFitting(p, &p.changes, mostChanges, ready, func(ctx context.Context, conn *pgx.Conn, jobs []*job[*changing]) {
		defer leave(ctx, conn)
		attempt := func(jobs []*job[*changing]) error {
			first := begun
			begun = nil
			return p.applyBatch(ctx, conn, first, jobs)
		}
		for len(jobs) > 0 {
			var next []*job[*changing]
			next, jobs = apart(jobs)
			together(ctx, p, next, attempt, p.whyNotAdded)
			jobs = slices.DeleteFunc(jobs, func(j *job[*changing]) bool { return tooLate(j, next) })
		}
	})
}

// whyNotAdded returns the error of a change: an addition that violates something unique has a taken id.
func (p *postgresEngine) whyNotAdded(j *job[*changing], err error) error {
	if p.class(err) == uniqueViolation && j.ask.Expect == 0 {
		return emailprovider.ErrIDTaken
	}
	return err
}

// apart returns the changes that can be made together, and those that must wait until these are made:
// of one provider the first, and of an instance whose active provider changes only that.
func apart(jobs []*job[*changing]) (together, rest []*job[*changing]) {
	taken := map[providerKey]bool{}
	for _, j := range jobs {
		all, one := providerKey{instance: j.ask.Event.Instance}, j.ask.key()
		activating := j.ask.activates()
		anybody := providerKey{instance: all.instance, active: true} // marks an instance with any change
		if taken[all] || taken[one] || activating && taken[anybody] {
			rest = append(rest, j)
			continue
		}
		together = append(together, j)
		taken[one], taken[anybody] = true, true
		if activating {
			taken[all] = true
		}
	}
	return together, rest
}

func (c *changing) key() providerKey {
	return providerKey{instance: c.Event.Instance, id: c.Event.ProviderID}
}

// activates reports whether another provider may become inactive.
func (c *changing) activates() bool {
	return c.Put != nil && c.Put.State == emailprovider.Active && (c.Expect == 0 || c.Event.Type == emailprovider.EventActivated)
}

// tooLate answers a change that was decided on the state before one that is made.
func tooLate(j *job[*changing], made []*job[*changing]) bool {
	for _, m := range made {
		if m.err == nil && m.ask.applied > 0 && m.ask.key() == j.ask.key() && m.ask.Expect == j.ask.Expect && j.ask.Expect > 0 {
			j.finish(emailprovider.ErrConflict)
			return true
		}
	}
	return false
}

// applyBatch makes changes in one round trip, which is one transaction, and says of each whether it was
// made. Holding the instances first is what makes the rest see the latest state, and one order of them
// keeps processes from waiting for each other. If begun is not nil, a transaction has begun that holds them.
func (p *postgresEngine) applyBatch(ctx context.Context, conn *pgx.Conn, begun *held, jobs []*job[*changing]) error {
	batch := pipeline{conn: conn}
	instances := begun
	if begun != nil {
		defer leave(ctx, conn)
	} else {
		instances = &held{}
		if err := instances.hold(ctx, &batch, instancesOf(jobs)); err != nil {
			return err
		}
	}
	var kinds applyChanges
	rows := make([]*changeRow, len(jobs))
	for i, j := range jobs {
		c := j.ask
		if c.activates() || len(jobs) == 1 && c.Put != nil && c.Put.State == emailprovider.Active && !c.alike {
			if err := batch.add(ctx, deactivateFormer, c.former(), nil); err != nil {
				return err
			}
		}
		c.applied = 0
		kinds.add(&c.change)
		rows[i] = &c.sent
	}
	text := kinds.text()
	if err := batch.add(ctx, text.query, changeParams(rows, text.columns), eachRow(made(jobs))); err != nil {
		return err
	}
	if begun != nil {
		if err := batch.add(ctx, `COMMIT`, params{}, wasCommitted); err != nil {
			return err
		}
	}
	err := batch.run(ctx)
	for _, j := range jobs {
		j.err = j.ask.refusal(instances.there)
	}
	if err = p.committed(conn, err); err == nil {
		p.turn.made(jobs)
	}
	return err
}

// former returns the arguments of deactivateFormer.
func (c *changing) former() (p params) {
	p.text(c.Event.Instance)
	p.text(c.Event.ProviderID)
	for _, n := range []int64{micros(c.Put.Changed), signed(c.Expect), int64(c.ExpectKey), signed(c.Put.Previous.Version)} {
		p.number(n)
	}
	return p
}

// made takes note of each change that was made.
func made(jobs []*job[*changing]) func(binaryRow) error {
	return func(row binaryRow) error {
		var n, sequence uint64
		if err := row.Scan(&n, &sequence); err != nil {
			return err
		}
		jobs[n-1].ask.applied = sequence
		return nil
	}
}

// refusal is why a change was not made, if it was not; held are the instances that there are.
func (c *changing) refusal(held []string) error {
	switch {
	case c.applied > 0:
		return nil
	case !slices.Contains(held, c.Event.Instance):
		return fmt.Errorf("sqlstore: no instance %q", c.Event.Instance)
	case c.Expect == 0:
		return emailprovider.ErrIDTaken
	}
	return emailprovider.ErrConflict
}

// fitting is the condition under which a change may be made, of the change c and the stored provider p:
// that of updateProvider, insertProvider and deleteProvider. Where all are updates it is asExpected, and where all
// of these keep the present credential as the previous one, asReplaced: that of replaceCredential.
const (
	asReplaced = `p.sequence = c.expect AND p.key_id = c.expect_key`
	asExpected = `p.sequence = c.expect AND COALESCE(p.key_id, 0) = c.expect_key
			AND (c.prev_version IS NULL OR p.prev_version = c.prev_version OR p.credential_version = c.prev_version)`
	fitting = `CASE
		WHEN c.expect = 0 THEN p.id IS NULL AND (
			SELECT e.sequence FROM events AS e WHERE e.provider_id = c.id AND e.type = 'provider.added') IS NULL
		WHEN c.removal THEN p.sequence = c.expect
		ELSE ` + asExpected + ` END`

	// deactivateFormer goes before applyChanges: an index allows one active provider at any moment.
	deactivateFormer = `UPDATE providers AS f SET active = FALSE, changed = $3, sequence = i.sequence + 1
		FROM instances AS i, (VALUES ($2::text, $4::bigint, $5::bigint, nullif($6::bigint, 0), FALSE)) AS c (id, expect, expect_key, prev_version, removal)
		LEFT JOIN providers AS p ON p.instance = $1 AND p.id = c.id
		WHERE i.id = $1 AND f.instance = $1 AND f.active AND f.id <> $2 AND ` + fitting
)
