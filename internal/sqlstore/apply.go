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
			key_id, ciphertext, set_at, set_by, changed, sequence, prev_version, prev_key_id,
			prev_ciphertext, prev_user, prev_set_at, prev_set_by, prev_until, instance, id, kind, created)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
			$20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)
		ON CONFLICT (instance, id) DO NOTHING`

	// Neither kind nor created ever change; leaving them out spares an index. A previous credential
	// is the one that is stored as such, or as the present one: a destroyed one must not come back.
	updateProvider = `UPDATE providers SET active = $1, description = $2, sender_address = $3,
			sender_name = $4, reply_to = $5, host = $6, tls = $7, smtp_user = $8, auth = $9,
			token_endpoint = $10, client_id = $11, scopes = $12, endpoint = $13,
			credential_version = $14, key_id = $15, ciphertext = $16, set_at = $17, set_by = $18,
			changed = $19, sequence = $20, prev_version = $21, prev_key_id = $22, prev_ciphertext = $23,
			prev_user = $24, prev_set_at = $25, prev_set_by = $26, prev_until = $27
		WHERE instance = $28 AND id = $29 AND sequence = $30 AND COALESCE(key_id, 0) = $31
			AND ($21 IS NULL OR prev_version = $21 OR credential_version = $21)`

	deleteProvider = `DELETE FROM providers WHERE instance = $1 AND id = $2 AND sequence = $3`
)

// Apply implements emailprovider.Store.
func (db *DB) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	if err := checkChange(c); err != nil {
		return 0, err
	}
	sequence, err := db.engine.apply(ctx, c)
	db.seen.applied(c, sequence, err)
	if err != nil {
		return 0, err
	}
	if c.Put == nil {
		// The removal is done and durable; its secret is only in the journal for longer if this fails.
		_ = db.engine.erase(ctx)
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
func apply(l *line, c emailprovider.Change) (sequence uint64, err error) {
	e := c.Event
	next, err := l.number(updateSequence, e.Instance)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("sqlstore: no instance %q", e.Instance)
	}
	if err != nil {
		return 0, err
	}
	e.Sequence = uint64(next)
	if c.Put == nil {
		err = l.execOne(emailprovider.ErrConflict, deleteProvider, e.Instance, e.ProviderID, signed(c.Expect))
	} else {
		err = put(l, c, next)
	}
	if err != nil {
		return 0, err
	}
	return e.Sequence, record(l, e)
}

// put writes c.Put, which may take the place of the active provider.
func put(l *line, c emailprovider.Change, sequence int64) error {
	p := c.Put
	r, err := newProviderRow(p)
	if err != nil {
		return err
	}
	if r.active {
		if _, err := l.exec(updateFormerActive, p.Instance, p.ID, r.changed, sequence); err != nil {
			return err
		}
	}
	keyID, ciphertext := r.secret()
	args := append(make([]any, 0, 31),
		r.active, r.description, r.senderAddress, r.senderName, r.replyTo, r.host, r.tls, r.user,
		r.auth, r.tokenEndpoint, r.clientID, r.scopes, r.endpoint, r.credentialVersion, keyID,
		ciphertext, r.setAt, r.setBy, r.changed, sequence)
	args = append(r.previous.columns(args), p.Instance, p.ID)
	if c.Expect == 0 {
		args = append(args, r.kind, r.created)
		return l.execOne(emailprovider.ErrIDTaken, insertProvider, args...)
	}
	args = append(args, signed(c.Expect), c.ExpectKey)
	return l.execOne(emailprovider.ErrConflict, updateProvider, args...)
}
