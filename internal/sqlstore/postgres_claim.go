package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// The parts of these statements are joined by where a row is (ctid), and rows are looked for by all
// columns of their key in a subquery that OFFSET 0 keeps apart: whatever the statistics say, also of a
// table that was empty, no plan can go through all rows of an instance.
const (
	// takeDue takes mails; unless $6 is true, only if there is an active provider whose breaker is closed. A
	// mail that was changed just before it could be locked is left to the next claim.
	takeDue = `WITH due AS MATERIALIZED (
			SELECT m.ctid AS t, m.due, c.key_id, c.ciphertext FROM messages AS m CROSS JOIN LATERAL (
				SELECT key_id, ciphertext FROM message_contents AS c WHERE c.instance = m.instance AND c.id = m.id OFFSET 0) AS c
			WHERE m.instance = $1 AND m.open AND m.due <= $2 AND m.expires + 0 > $2 AND ($6 OR EXISTS (
				SELECT 1 FROM providers AS p WHERE p.instance = $1 AND p.active AND NOT EXISTS (
					SELECT 1 FROM credential_uses AS u WHERE u.instance = p.instance AND u.provider_id = p.id
						AND u.version = p.credential_version AND u.probe > 0 OFFSET 0)))
			ORDER BY m.due LIMIT $3 FOR UPDATE OF m SKIP LOCKED
		), sized AS (
			SELECT *, COALESCE(sum(length(ciphertext)) OVER (ORDER BY due, t ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
			FROM due
		)
		UPDATE messages AS m SET state = 'sending', due = $4, fence = m.fence + 1,
			changed = CASE WHEN m.state = 'sending' THEN m.changed ELSE $2 END, changed_in = txid_current()
		FROM sized AS s WHERE m.ctid = s.t AND s.before < $5
		RETURNING` + messageColumns + `, s.key_id AS q, s.ciphertext AS r, s.due AS s`

	// activeBreaker are its probe and last failure, as selectBreaker has them, 0 if it is closed.
	activeBreaker = `SELECT` + providerColumns + `, COALESCE(probe, 0) AS ae, COALESCE(last_failure, 0) AS af
		FROM providers AS p LEFT JOIN LATERAL (
			SELECT u.probe, u.last_failure FROM credential_uses AS u WHERE u.instance = p.instance AND u.provider_id = p.id
				AND u.version = p.credential_version AND u.probe > 0 OFFSET 0) AS u ON TRUE
		WHERE p.instance = $1 AND p.active`
)

// dueMails are the rows of takeDue.
type dueMails struct {
	instance string
	all      []dueMail
}

type dueMail struct {
	outbox.ClaimedMail
	due int64 // until now
}

// takeDueArgs are the arguments of takeDue.
func takeDueArgs(c outbox.ClaimRequest, anyway bool) []any {
	return []any{c.Instance, micros(c.Now), c.Limit, micros(c.Until), maxClaimed, anyway}
}

func (d *dueMails) scan(row scanner) (err error) {
	var m dueMail
	m.Message, err = scanMessage(row, d.instance, &m.Content.KeyID, &m.Content.Ciphertext, &m.due)
	d.all = append(d.all, m)
	return err
}

// longestDueFirst returns the mails in the order in which they are to be sent.
func (d *dueMails) longestDueFirst() (mails []outbox.ClaimedMail) {
	slices.SortFunc(d.all, func(a, b dueMail) int { return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.ID, b.ID)) })
	for _, m := range d.all {
		mails = append(mails, m.ClaimedMail)
	}
	return mails
}

// take implements executor.
func (l *postgresLine) take(c outbox.ClaimRequest) ([]outbox.ClaimedMail, error) {
	taken := dueMails{instance: c.Instance}
	err := l.each(takeDue, takeDueArgs(c, true), func(row scanner) (more bool, err error) { return true, taken.scan(row) })
	return taken.longestDueFirst(), err
}

// claiming is a claim that takes mails first and looks at the provider after that, so that none goes out
// with a state of the provider from before the mail was accepted, or queued again.
type claiming struct {
	outbox.ClaimRequest
	claim outbox.Claim
	taken dueMails
}

// errHeld: mails are held back, or were while some were taken; more can only be said under locks.
var errHeld = errors.New("sqlstore: mails are held back")

func (p *postgresEngine) claim(ctx context.Context, r outbox.ClaimRequest) (outbox.Claim, error) {
	c := claiming{ClaimRequest: r}
	err := p.travel(ctx, trips{c.ask, c.judge})
	if errors.Is(err, errHeld) {
		return claimLocked(ctx, p, r)
	}
	if err != nil {
		return outbox.Claim{}, err
	}
	return c.claim, nil
}

func (c *claiming) ask(b *pgx.Batch) {
	c.claim, c.taken = outbox.Claim{}, dueMails{instance: c.Instance} // nothing of an attempt before
	b.Queue(takeDue, takeDueArgs(c.ClaimRequest, false)...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := c.taken.scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	b.Queue(activeBreaker, c.Instance).QueryRow(c.readProvider)
}

func (c *claiming) readProvider(row pgx.Row) error {
	var active providerRow
	var probe, failed int64
	err := active.scan(followed{row, []any{&probe, &failed}})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if probe > 0 {
		c.claim.Probe = probeAt(probe, failed, c.ProbeAfter)
	}
	c.claim.Provider, err = active.provider(c.Instance)
	return err
}

// followed is a row with more columns than are scanned.
type followed struct {
	scanner
	more []any
}

// Scan implements scanner.
func (f followed) Scan(dest ...any) error { return f.scanner.Scan(append(dest, f.more...)...) }

// judge takes nothing if that would break a promise.
func (c *claiming) judge(*line, *pgx.Batch) error {
	gone, held := c.claim.Provider.ID == "", !c.claim.Probe.IsZero()
	if len(c.taken.all) > 0 && (gone || held) || held && !c.claim.Probe.After(c.Now) {
		return errHeld
	}
	c.claim.Mails = c.taken.longestDueFirst()
	return nil
}
