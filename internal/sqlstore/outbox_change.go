package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

const (
	// inTransaction goes with every change of a mail but that of its lease: see selectChanged.
	inTransaction = ` /*pg , changed_in = txid_current() */`

	updateCancelled = `UPDATE messages SET state = 'cancelled', open = FALSE, due = 0, changed = $3, fence = fence + 1` + inTransaction + `
		WHERE instance = $1 AND id = $2 AND state = 'queued'`
	updateDue = `UPDATE messages SET due = $3, fence = fence + 1` + inTransaction + ` WHERE instance = $1 AND id = $2 AND state = 'queued'`

	selectHasContent = `SELECT EXISTS (SELECT 1 FROM message_contents WHERE instance = $1 AND id = $2)`
	insertLast       = `INSERT INTO attempts (instance, id, number, record)
		SELECT instance, id, attempts, last_attempt FROM messages
		WHERE instance = $1 AND id = $2 AND last_attempt IS NOT NULL`
	updateRevived = `UPDATE messages SET state = 'queued', open = TRUE, due = $3, changed = $3, expires = $4,
			recipients = $5, reason = '', last_attempt = NULL, fence = fence + 1` + inTransaction + `
		WHERE instance = $1 AND id = $2 AND state IN ('failed', 'expired')`

	selectExpired = `SELECT` + messageColumns + ` FROM messages AS m
		WHERE m.instance = $1 AND m.open AND m.expires <= $2 AND m.due <= $2 ORDER BY m.expires LIMIT $3 /*pg FOR UPDATE SKIP LOCKED */`
	updateExpired = `UPDATE messages SET state = 'expired', open = FALSE, due = 0, changed = $1, fence = fence + 1` + inTransaction + ` WHERE instance = $2 AND id IN `

	selectAttempts = `SELECT number, record FROM attempts WHERE instance = $1 AND id = $2
		UNION ALL SELECT attempts, last_attempt FROM messages WHERE instance = $1 AND id = $2 AND last_attempt IS NOT NULL
		ORDER BY number`
)

// Attempts implements outbox.Store.
func (db *DB) Attempts(ctx context.Context, instance, id string) ([]outbox.Attempt, error) {
	return all(ctx, db, func(row scanner) (outbox.Attempt, error) {
		var (
			number int
			record []byte
		)
		if err := row.Scan(&number, &record); err != nil {
			return outbox.Attempt{}, err
		}
		return parseAttempt(number, record)
	}, selectAttempts, instance, id)
}

// change reads a mail, runs f on it, and writes what f writes.
func (db *DB) change(
	ctx context.Context, instance, id string, f func(*line, *outbox.Message) error,
) (outbox.Message, error) {
	var m outbox.Message
	err := db.writeClean(ctx, func(l *line) error {
		err := l.one(selectMessage+` /*pg FOR UPDATE */`, []any{instance, id}, func(row scanner) (err error) {
			m, err = scanMessage(row, instance)
			return err
		})
		if errors.Is(err, sql.ErrNoRows) {
			return outbox.ErrNotFound
		}
		if err != nil {
			return err
		}
		return f(l, &m)
	})
	if err != nil {
		return outbox.Message{}, err
	}
	return m, nil
}

// Cancel implements outbox.Store.
func (db *DB) Cancel(ctx context.Context, instance, id string, at time.Time, keep bool) (outbox.Message, error) {
	return db.change(ctx, instance, id, func(l *line, m *outbox.Message) error {
		switch m.State {
		case outbox.Cancelled:
			return nil
		case outbox.Queued:
		default:
			return outbox.ErrState
		}
		if err := l.execOne(outbox.ErrState, updateCancelled, instance, id, micros(at)); err != nil {
			return err
		}
		m.State, m.Changed, m.Due = outbox.Cancelled, kept(at), time.Time{}
		m.Version++
		if keep {
			return nil
		}
		return eraseMails.exec(l, []string{id}, instance)
	})
}

// kept is a time as it comes back from the database.
func kept(t time.Time) time.Time { return fromMicros(micros(t)) }

// Requeue implements outbox.Store.
func (db *DB) Requeue(ctx context.Context, instance, id string, at, expires time.Time) (outbox.Message, error) {
	return db.change(ctx, instance, id, func(l *line, m *outbox.Message) error {
		switch m.State {
		case outbox.Queued:
			m.Due = kept(at)
			if m.Expires.Before(m.Due) {
				m.Due = m.Expires
			}
			m.Version++
			return l.execOne(outbox.ErrState, updateDue, instance, id, micros(m.Due))
		case outbox.Failed, outbox.Expired:
			return revive(l, m, kept(at), kept(expires))
		}
		return outbox.ErrState
	})
}

// revive queues a settled mail again.
func revive(l *line, m *outbox.Message, at, expires time.Time) error {
	var hasContent bool
	err := l.one(selectHasContent, []any{m.Instance, m.ID}, func(row scanner) error { return row.Scan(&hasContent) })
	if err != nil {
		return err
	}
	if !hasContent {
		return outbox.ErrNotFound
	}
	for i, r := range m.Recipients {
		if r.State == outbox.Refused {
			m.Recipients[i] = outbox.Recipient{Address: r.Address, Kind: r.Kind, State: outbox.Pending}
		}
	}
	recipients, err := formatRecipients(m.Recipients)
	if err != nil {
		return err
	}
	if _, err := l.exec(insertLast, m.Instance, m.ID); err != nil {
		return err
	}
	m.State, m.Reason, m.Changed, m.Due, m.Expires = outbox.Queued, "", at, at, expires
	m.Version++
	return l.execOne(outbox.ErrState, updateRevived, m.Instance, m.ID, micros(at), micros(expires), recipients)
}

// Expire implements outbox.Queue.
func (db *DB) Expire(
	ctx context.Context, instance string, now time.Time, limit int, keep bool,
) ([]outbox.Message, error) {
	var expired []outbox.Message
	err := db.writeClean(ctx, func(l *line) error {
		var ids []string
		expired = nil
		err := l.each(selectExpired, []any{instance, micros(now), limit}, func(row scanner) (more bool, err error) {
			m, err := scanMessage(row, instance)
			m.State, m.Changed, m.Due = outbox.Expired, kept(now), time.Time{}
			m.Version++
			expired, ids = append(expired, m), append(ids, m.ID)
			return true, err
		})
		if err != nil {
			return err
		}
		if err := expireMails.exec(l, ids, micros(now), instance); err != nil || keep {
			return err
		}
		return eraseMails.exec(l, ids, instance)
	})
	if err != nil {
		return nil, err
	}
	return expired, nil
}
