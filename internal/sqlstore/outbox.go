package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

const (
	insertMessage = `INSERT INTO messages (instance, id, state, open, due, expires, fence, changed, created, attempts,
			provider_id, credential_version, tag, idempotency_key, fingerprint, recipient, recipients, reason)
		VALUES ($1, $2, 'queued', TRUE, $3, $4, 0, $5, $6, 0, '', 0, $7, $8, $9, $10, $11, '')
		ON CONFLICT DO NOTHING`
	insertContent   = `INSERT INTO message_contents (instance, id, key_id, ciphertext) VALUES ($1, $2, $3, $4)`
	insertRecipient = `INSERT INTO message_recipients (instance, address, id) VALUES ($1, $2, $3)
		ON CONFLICT (instance, address, id) DO NOTHING`

	selectMessage      = `SELECT` + messageColumns + ` FROM messages AS m WHERE instance = $1 AND id = $2`
	selectMessageByKey = `SELECT` + messageColumns + ` FROM messages AS m WHERE instance = $1 AND idempotency_key = $2`
	countOpenOfOne     = `SELECT count(*) FROM messages WHERE instance = $1 AND open`
	selectContent      = `SELECT key_id, ciphertext FROM message_contents WHERE instance = $1 AND id = $2`
)

// Accept implements outbox.Store.
func (db *DB) Accept(ctx context.Context, m outbox.Message, content outbox.Sealed) (outbox.Message, error) {
	recipients, err := formatRecipients(m.Recipients)
	if err != nil {
		return outbox.Message{}, err
	}
	if len(content.Ciphertext) == 0 {
		return outbox.Message{}, errors.New("sqlstore: a mail without content")
	}
	m.State = outbox.Queued
	m.Due, m.Expires, m.Changed, m.Created = kept(m.Due), kept(m.Expires), kept(m.Changed), kept(m.Created)
	taken, err := db.engine.accept(ctx, &acceptance{m, recipients, content})
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, outbox.ErrKeyTaken):
		return taken, err
	}
	return outbox.Message{}, err
}

// acceptance is a mail that is to be accepted.
type acceptance struct {
	outbox.Message
	recipients string // as they are stored
	content    outbox.Sealed
}

// columns are the arguments of insertMessage.
func (m *acceptance) columns() []any {
	return []any{
		m.Instance, m.ID, micros(m.Due), micros(m.Expires), micros(m.Changed), micros(m.Created), m.Tag,
		sql.NullString{String: m.IdempotencyKey, Valid: m.IdempotencyKey != ""}, m.Fingerprint,
		searchable(m.Recipients[0]), m.recipients,
	}
}

// further are the arguments of insertRecipient, for each that needs it.
func (m *acceptance) further() (rows [][]any) {
	for _, r := range m.Recipients[1:] {
		rows = append(rows, []any{m.Instance, searchable(r), m.ID})
	}
	return rows
}

// accept writes a new mail, or reads the one that has its idempotency key.
func accept(l *line, m *acceptance, taken *outbox.Message) error {
	err := l.execOne(outbox.ErrKeyTaken, insertMessage, m.columns()...)
	if errors.Is(err, outbox.ErrKeyTaken) {
		return keyTaken(l, m, taken)
	}
	if err != nil {
		return err
	}
	if _, err := l.execAll(insertRecipient, m.further()); err != nil {
		return err
	}
	_, err = l.exec(insertContent, m.Instance, m.ID, m.content.KeyID, m.content.Ciphertext)
	return err
}

// keyTaken reads the mail that has m's idempotency key.
func keyTaken(l *line, m *acceptance, taken *outbox.Message) (err error) {
	err = l.one(selectMessageByKey, []any{m.Instance, m.IdempotencyKey}, func(row scanner) (err error) {
		*taken, err = scanMessage(row, m.Instance)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("sqlstore: there is a mail %s already", m.ID)
	}
	if err != nil {
		return err
	}
	return outbox.ErrKeyTaken
}

// searchable is the form of an address that mails are found by.
func searchable(r outbox.Recipient) string { return strings.ToLower(r.Address) }

// Message implements outbox.Store.
func (db *DB) Message(ctx context.Context, instance, id string) (outbox.Message, error) {
	if err := ctx.Err(); err != nil {
		return outbox.Message{}, fmt.Errorf("sqlstore: %w", err)
	}
	m, err := scanMessage(db.engine.message(ctx, instance, id), instance)
	return m, db.foundOr(ctx, err)
}

// MessageByKey implements outbox.Store.
func (db *DB) MessageByKey(ctx context.Context, instance, key string) (outbox.Message, error) {
	m, err := scanMessage(db.one(ctx, selectMessageByKey, instance, key), instance)
	return m, db.foundOr(ctx, err)
}

// CountOpen implements outbox.Store.
func (db *DB) CountOpen(ctx context.Context, instance string) (n int, err error) {
	err = db.one(ctx, countOpenOfOne, instance).Scan(&n)
	return n, db.foundOr(ctx, err)
}

// Content implements outbox.Store.
func (db *DB) Content(ctx context.Context, instance, id string) (s outbox.Sealed, err error) {
	err = db.one(ctx, selectContent, instance, id).Scan(&s.KeyID, &s.Ciphertext)
	return s, db.foundOr(ctx, err)
}

// foundOr returns err as a store answers it, outbox.ErrNotFound for no row.
func (db *DB) foundOr(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return outbox.ErrNotFound
	}
	return db.failed(ctx, err)
}
