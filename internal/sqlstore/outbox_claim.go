package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

const (
	selectBreaker = `SELECT probe, last_failure FROM credential_uses
		WHERE instance = $1 AND provider_id = $2 AND version = $3 AND probe > 0 /*pg FOR UPDATE */`
	updateProbe = `UPDATE credential_uses SET probe = $4 WHERE instance = $1 AND provider_id = $2 AND version = $3`

	holdActive = selectActive + ` /*pg FOR SHARE */`

	selectUnchanged = `SELECT 1 FROM providers WHERE instance = $1 AND id = $2 AND sequence = $3 AND active`

	selectDue = `SELECT` + messageColumns + `, CAST(c.key_id AS BIGINT) AS q, c.ciphertext AS r
		FROM messages AS m JOIN message_contents AS c ON c.instance = m.instance AND c.id = m.id
		WHERE m.instance = $1 AND m.open AND m.due <= $2 AND m.expires > $2 ORDER BY m.due LIMIT $3`

	updateClaimed = `UPDATE messages SET state = 'sending', due = $1, fence = fence + 1,
			changed = CASE WHEN state = 'sending' THEN changed ELSE $2 END
		WHERE instance = $3 AND id IN `

	updateLease = `UPDATE messages SET due = $1 WHERE instance = $2 AND id = $3 AND fence = $4 AND state = 'sending'`

	// One step in the index for each instance. None that waits is due at 0.
	updateReleased = `UPDATE messages SET state = 'queued', changed = $1, fence = fence + 1,
			due = CASE WHEN due > $1 THEN $1 ELSE due END
		WHERE open AND state = 'sending'`

	selectWaiting = `SELECT id, COALESCE((SELECT sequence FROM providers WHERE instance = i.id AND active), 0),
			COALESCE((SELECT min(due) FROM messages WHERE instance = i.id AND open), 0)
		FROM instances AS i ORDER BY id`
)

// Claim implements outbox.Queue.
func (db *DB) Claim(ctx context.Context, c outbox.ClaimRequest) (outbox.Claim, error) {
	return db.engine.claim(ctx, c)
}

// claimLocked claims mails with locks on what may hold them back.
func claimLocked(ctx context.Context, e engine, c outbox.ClaimRequest) (outbox.Claim, error) {
	var claim outbox.Claim // never a result before the write is over, as write says
	err := errProviderChanged
	for try := 0; errors.Is(err, errProviderChanged); try++ {
		active := selectActive
		if try >= claimTries {
			active = holdActive
		}
		err = e.write(ctx, write{clean: true, do: func(l *line) error {
			claim = outbox.Claim{}
			return claimActive(l, active, c, &claim)
		}})
	}
	if err != nil {
		return outbox.Claim{}, err
	}
	return claim, nil
}

// errProviderChanged: the active provider was changed while mails were claimed for it.
var errProviderChanged = errors.New("sqlstore: the active provider was changed meanwhile")

// claimTries is how often a claim leaves it to chance that the provider is not changed meanwhile. Then it
// keeps others from changing it.
const claimTries = 3

// claimActive takes mails for the active provider. Where others write at the same time it looks at the
// provider once more when it has the mails, so that none goes out with a state of the provider from
// before the mail was accepted.
func claimActive(l *line, query string, c outbox.ClaimRequest, claim *outbox.Claim) error {
	var active providerRow
	err := l.one(query, []any{c.Instance}, func(row scanner) error { return active.scan(row) })
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := active.provider(c.Instance)
	if err != nil {
		return err
	}
	claim.Provider = p
	if err := claimThrough(l, c, claim); err != nil || len(claim.Mails) == 0 {
		return err
	}
	unchanged, err := l.exists(selectUnchanged, p.Instance, p.ID, signed(p.Sequence))
	if err == nil && !unchanged {
		return errProviderChanged
	}
	return err
}

// claimThrough takes what the breaker of the active provider lets through.
func claimThrough(l *line, c outbox.ClaimRequest, claim *outbox.Claim) (err error) {
	p := claim.Provider
	claim.Probe, err = nextProbe(l, p, c.ProbeAfter)
	if err != nil || claim.Probe.After(c.Now) {
		return err
	}
	probing := !claim.Probe.IsZero()
	if probing {
		c.Limit = 1
	}
	claim.Mails, err = l.claim(c)
	if err != nil || !probing || len(claim.Mails) == 0 {
		return err
	}
	claim.Probe = kept(c.Now.Add(c.ProbeAfter))
	_, err = l.exec(updateProbe, c.Instance, p.ID, p.Credential.Version, micros(claim.Probe))
	return err
}

// nextProbe returns when the breaker of the provider's present credential lets a mail through, zero
// if it is closed. After a failure that is never sooner than the given time.
func nextProbe(l *line, p emailprovider.Provider, after time.Duration) (time.Time, error) {
	var probe, failed int64
	err := l.one(selectBreaker, []any{p.Instance, p.ID, p.Credential.Version}, func(row scanner) error {
		return row.Scan(&probe, &failed)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	return probeAt(probe, failed, after), err
}

// probeAt returns when an open breaker lets a mail through whose probe is due then and whose credential was
// last refused then.
func probeAt(probe, failed int64, after time.Duration) time.Time {
	return fromMicros(max(probe, failed+after.Microseconds()))
}

// maxClaimed bounds the contents of one claim, in bytes, but for its last mail.
const maxClaimed = 8 << 20

// take claims mails one after the other.
func take(l *line, c outbox.ClaimRequest) (mails []outbox.ClaimedMail, err error) {
	var taken []string
	size := 0
	err = l.each(selectDue, []any{c.Instance, micros(c.Now), c.Limit}, func(row scanner) (more bool, err error) {
		var m outbox.ClaimedMail
		if m.Message, err = scanMessage(row, c.Instance, &m.Content.KeyID, &m.Content.Ciphertext); err != nil {
			return false, err
		}
		if m.State != outbox.Sending {
			m.State, m.Changed = outbox.Sending, kept(c.Now)
		}
		m.Due = kept(c.Until)
		m.Version++
		mails, taken = append(mails, m), append(taken, m.ID)
		size += len(m.Content.Ciphertext)
		return size < maxClaimed, nil
	})
	if err != nil {
		return nil, err
	}
	return mails, claimMails.exec(l, taken, micros(c.Until), micros(c.Now), c.Instance)
}

// many is how many mails one statement changes at most: what a call costs besides is shared.
const many = 50

// perMails is a statement for mails of one instance, whose ids are its last arguments.
type perMails struct{ one, many string }

var (
	claimMails  = forMails(updateClaimed, 4)
	expireMails = forMails(updateExpired, 3)
	eraseMails  = forMails(deleteContents, 2)
)

// forMails ends a statement whose last argument but for the ids is before first.
func forMails(statement string, first int) perMails {
	return perMails{statement + ids(first, 1), statement + ids(first, many)}
}

// ids is the list of n ids at the end of such a statement.
func ids(first, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = "$" + strconv.Itoa(first+i)
	}
	return "(" + strings.Join(list, ", ") + ")"
}

func (p perMails) exec(l *line, ids []string, args ...any) error {
	if len(ids) == 1 {
		_, err := l.exec(p.one, append(args, ids[0])...)
		return err
	}
	fixed := len(args)
	if l.pipelines() {
		rows := make([][]any, len(ids))
		for i, id := range ids {
			rows[i] = append(args[:fixed:fixed], id)
		}
		_, err := l.execAll(p.one, rows)
		return err
	}
	for ; len(ids) > 0; ids = ids[min(many, len(ids)):] {
		args = args[:fixed]
		for i := range many {
			args = append(args, ids[min(i, len(ids)-1)]) // the last one again and again changes nothing
		}
		if _, err := l.exec(p.many, args...); err != nil {
			return err
		}
	}
	return nil
}

// inOrder compares leases by the mails that they are of. Whoever holds several mails takes them in this order, so
// that nobody waits for somebody who waits for him.
func inOrder(a, b outbox.Lease) int {
	return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.ID, b.ID))
}

// Extend implements outbox.Queue.
func (db *DB) Extend(ctx context.Context, claims []outbox.Lease, until time.Time) ([]outbox.Lease, error) {
	claims = slices.SortedFunc(slices.Values(claims), inOrder)
	var lost []outbox.Lease
	err := db.writeClean(ctx, func(l *line) error {
		lost = nil
		rows := make([][]any, len(claims))
		for i, c := range claims {
			rows[i] = []any{micros(until), c.Instance, c.ID, signed(c.Fence)}
		}
		extended, err := l.execAll(updateLease, rows)
		for i, n := range extended {
			if n == 0 {
				lost = append(lost, claims[i])
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

// ReleaseClaims puts every mail that is being sent back into the queue, due at once. It is for the start
// of a process that knows itself alone: who claimed them is no more. It looks at every open mail.
func (db *DB) ReleaseClaims(ctx context.Context) error {
	return db.writeClean(ctx, func(l *line) error {
		_, err := l.exec(updateReleased, micros(db.now()))
		return err
	})
}

// Waiting implements outbox.Queue.
func (db *DB) Waiting(ctx context.Context) ([]outbox.Wait, error) {
	waits, err := all(ctx, db, func(row scanner) (w outbox.Wait, err error) {
		var due int64
		err = row.Scan(&w.Instance, &w.Sequence, &due)
		w.Due = fromMicros(due)
		return w, err
	}, selectWaiting)
	return slices.DeleteFunc(waits, func(w outbox.Wait) bool { return w.Due.IsZero() }), err
}
