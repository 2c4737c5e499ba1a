package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	updateSequence = `UPDATE instances SET sequence = sequence + 1 WHERE id = $1 RETURNING sequence`

	updateFormerActive = `UPDATE providers SET active = FALSE, changed = $3,
			sequence = (SELECT sequence + 1 FROM instances WHERE id = $1)
		WHERE instance = $1 AND active AND id <> $2`

	insertProvider = `INSERT INTO providers (active, description, sender_address, sender_name, reply_to,
			host, tls, smtp_user, auth, token_endpoint, client_id, scopes, endpoint, credential_version,
			key_id, ciphertext, set_at, set_by, changed, prev_version, prev_key_id,
			prev_ciphertext, prev_user, prev_set_at, prev_set_by, prev_until, instance, id, kind, created, sequence)
		SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
			$20, $21, $22, $23, $24, $25, $26, id, $28, $29, $30, sequence + 1
		FROM instances WHERE id = $27
		ON CONFLICT (instance, id) DO NOTHING`

	// Neither kind nor created ever change; leaving them out spares an index. A previous credential
	// is the one that is stored as such, or as the present one: a destroyed one must not come back.
	updateProvider = `UPDATE providers SET active = $1, description = $2, sender_address = $3,
			sender_name = $4, reply_to = $5, host = $6, tls = $7, smtp_user = $8, auth = $9,
			token_endpoint = $10, client_id = $11, scopes = $12, endpoint = $13,
			credential_version = $14, key_id = $15, ciphertext = $16, set_at = $17, set_by = $18,
			changed = $19, prev_version = $20, prev_key_id = $21, prev_ciphertext = $22,
			prev_user = $23, prev_set_at = $24, prev_set_by = $25, prev_until = $26,
			sequence = (SELECT sequence + 1 FROM instances WHERE id = $27)
		WHERE instance = $27 AND id = $28 AND sequence = $29 AND COALESCE(key_id, 0) = $30
			AND ($20 IS NULL OR prev_version = $20 OR credential_version = $20)`

	deleteProvider = `DELETE FROM providers WHERE instance = $1 AND id = $2 AND sequence = $3`
)

// Apply implements emailprovider.Store.
func (db *DB) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	if err := checkChange(c); err != nil {
		return 0, err
	}
	epoch := db.engine.epoch()
	sequence, err := db.engine.apply(ctx, c)
	db.seen.applied(epoch, c, sequence, err)
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

// apply makes one change in a transaction of SQLite that may hold others; after an error the caller undoes
// what was done since before the call. What can be refused goes first, so that there mostly is nothing.
func apply(l *line, c emailprovider.Change) (sequence uint64, err error) {
	e := c.Event
	if c.Put == nil {
		err = l.execOne(emailprovider.ErrConflict, deleteProvider, e.Instance, e.ProviderID, signed(c.Expect))
	} else {
		err = put(l, c)
	}
	if err != nil {
		return 0, err
	}
	next, err := l.number(updateSequence, e.Instance)
	if err != nil {
		return 0, err
	}
	e.Sequence = uint64(next)
	return e.Sequence, record(l, e)
}

// put writes c.Put, which may take the place of the active provider.
func put(l *line, c emailprovider.Change) error {
	p := c.Put
	r, err := newProviderRow(p)
	if err != nil {
		return err
	}
	if r.active {
		if _, err := l.exec(updateFormerActive, p.Instance, p.ID, r.changed); err != nil {
			return err
		}
	}
	keyID, ciphertext := r.secret()
	args := append(make([]any, 0, 30),
		r.active, r.description, r.senderAddress, r.senderName, r.replyTo, r.host, r.tls, r.user,
		r.auth, r.tokenEndpoint, r.clientID, r.scopes, r.endpoint, r.credentialVersion, keyID,
		ciphertext, r.setAt, r.setBy, r.changed)
	args = append(r.previous.columns(args), p.Instance, p.ID)
	if c.Expect == 0 {
		args = append(args, r.kind, r.created)
		err := l.execOne(emailprovider.ErrIDTaken, insertProvider, args...)
		if errors.Is(err, emailprovider.ErrIDTaken) {
			return idTaken(l, p.Instance)
		}
		return err
	}
	args = append(args, signed(c.Expect), c.ExpectKey)
	return l.execOne(emailprovider.ErrConflict, updateProvider, args...)
}

// idTaken says why nothing was added: there is no instance, or the id is taken.
func idTaken(l *line, instance string) error {
	there, err := l.exists(selectSequence, instance)
	switch {
	case err != nil:
		return err
	case !there:
		return fmt.Errorf("sqlstore: no instance %q", instance)
	}
	return emailprovider.ErrIDTaken
}
