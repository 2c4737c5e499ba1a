package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	updateSequence = `UPDATE instances SET sequence = sequence + 1 WHERE id = $1 RETURNING sequence`

	updateFormerActive = `UPDATE providers SET active = FALSE, changed = $3, sequence = $4
		WHERE instance = $1 AND active AND id <> $2`

	insertProvider = `INSERT INTO providers (active, description, sender_address, sender_name, reply_to,
			host, tls, smtp_user, auth, token_endpoint, client_id, scopes, endpoint, credential_version,
			key_id, ciphertext, set_at, set_by, changed, sequence, instance, id, kind, created)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
			$20, $21, $22, $23, $24)
		ON CONFLICT (instance, id) DO NOTHING`

	// Neither kind nor created ever change; leaving them out spares an index.
	updateProvider = `UPDATE providers SET active = $1, description = $2, sender_address = $3,
			sender_name = $4, reply_to = $5, host = $6, tls = $7, smtp_user = $8, auth = $9,
			token_endpoint = $10, client_id = $11, scopes = $12, endpoint = $13,
			credential_version = $14, key_id = $15, ciphertext = $16, set_at = $17, set_by = $18,
			changed = $19, sequence = $20
		WHERE instance = $21 AND id = $22 AND sequence = $23 AND COALESCE(key_id, 0) = $24`

	deleteProvider = `DELETE FROM providers WHERE instance = $1 AND id = $2 AND sequence = $3`
)

// Apply implements emailprovider.Store.
func (db *DB) Apply(ctx context.Context, c emailprovider.Change) (sequence uint64, err error) {
	if err := checkChange(c); err != nil {
		return 0, err
	}
	err = db.writeProviders(ctx, func(ctx context.Context, tx *sql.Tx) error {
		sequence, err = db.apply(ctx, tx, c)
		return err
	})
	if err != nil {
		return 0, err
	}
	if c.Put == nil {
		// The removal is done and durable; its secret is only in the journal for longer if this fails.
		_ = db.dialect.erase(ctx, db.writer)
	}
	return sequence, nil
}

// checkChange refuses what would break the promise that an id is given once: the id is held by the
// event that says it was added.
func checkChange(c emailprovider.Change) error {
	if c.Put == nil {
		if c.Expect == 0 {
			return errors.New("sqlstore: a removal needs the expected sequence")
		}
		return nil
	}
	if c.Put.ID != c.Event.ProviderID || c.Put.Instance != c.Event.Instance {
		return fmt.Errorf("sqlstore: provider %s and the event of provider %s are not the same",
			c.Put.ID, c.Event.ProviderID)
	}
	if c.Expect == 0 && c.Event.Type != emailprovider.EventAdded {
		return fmt.Errorf("sqlstore: a new provider with the event %s", c.Event.Type)
	}
	return nil
}

// apply makes one change in a transaction that may hold others; after an error the caller undoes
// what was done since before the call.
func (db *DB) apply(ctx context.Context, tx *sql.Tx, c emailprovider.Change) (sequence uint64, err error) {
	e := c.Event
	err = tx.StmtContext(ctx, db.hot.next).QueryRowContext(ctx, e.Instance).Scan(&sequence)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("sqlstore: no instance %q", e.Instance)
	}
	if err != nil {
		return 0, err
	}
	if c.Put == nil {
		err = oneOr(emailprovider.ErrConflict)(tx.StmtContext(ctx, db.hot.remove).
			ExecContext(ctx, e.Instance, e.ProviderID, signed(c.Expect)))
	} else {
		err = db.put(ctx, tx, c, sequence)
	}
	if err != nil {
		return 0, err
	}
	e.Sequence = sequence
	return sequence, db.record(ctx, tx, e)
}

// put writes c.Put, which may take the place of the active provider.
func (db *DB) put(ctx context.Context, tx *sql.Tx, c emailprovider.Change, sequence uint64) error {
	p := c.Put
	r, err := newProviderRow(p)
	if err != nil {
		return err
	}
	if r.active {
		_, err := tx.StmtContext(ctx, db.hot.demote).
			ExecContext(ctx, p.Instance, p.ID, r.changed, sequence)
		if err != nil {
			return err
		}
	}
	keyID, ciphertext := r.secret()
	args := append(make([]any, 0, 24),
		r.active, r.description, r.senderAddress, r.senderName, r.replyTo, r.host, r.tls, r.user,
		r.auth, r.tokenEndpoint, r.clientID, r.scopes, r.endpoint, r.credentialVersion, keyID,
		ciphertext, r.setAt, r.setBy, r.changed, sequence, p.Instance, p.ID)
	if c.Expect == 0 {
		args = append(args, r.kind, r.created)
		return oneOr(emailprovider.ErrIDTaken)(tx.StmtContext(ctx, db.hot.insert).ExecContext(ctx, args...))
	}
	args = append(args, signed(c.Expect), c.ExpectKey)
	return oneOr(emailprovider.ErrConflict)(tx.StmtContext(ctx, db.hot.update).ExecContext(ctx, args...))
}

// oneOr returns a check that a statement touched a row; the answer is none if it did not.
func oneOr(none error) func(sql.Result, error) error {
	return func(r sql.Result, err error) error {
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		if err == nil && n == 0 {
			return none
		}
		return err
	}
}
