package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	updateFormerActive = `UPDATE providers SET active = FALSE, changed = $3, sequence = $4
		WHERE instance = $1 AND active AND id <> $2`

	// $1 to $12 change with a credential, $13 to $15 are the instance, the id and the sequence of the change.
	insertProvider = `INSERT INTO providers (credential_version, ciphertext, set_at, set_by, changed,
			prev_version, prev_key_id, prev_ciphertext, prev_user, prev_set_at, prev_set_by, prev_until,
			instance, id, sequence, key_id, active, description, sender_address, sender_name, reply_to,
			host, tls, smtp_user, auth, token_endpoint, client_id, scopes, endpoint, ca, kind, created)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
			$22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)
		ON CONFLICT (instance, id) DO NOTHING`

	// A previous credential is the one that is stored as such, or as the
	// present one: a destroyed one must not come back.
	setCredential = `UPDATE providers SET credential_version = $1, ciphertext = $2, set_at = $3, set_by = $4,
			changed = $5, prev_version = $6, prev_key_id = $7, prev_ciphertext = $8, prev_user = $9,
			prev_set_at = $10, prev_set_by = $11, prev_until = $12, sequence = $15`
	whereAsExpected = ` WHERE instance = $13 AND id = $14 AND sequence = $16 AND COALESCE(key_id, 0) = $17
			AND ($6 IS NULL OR prev_version = $6 OR credential_version = $6)`

	// updateCredential leaves the settings alone, and the key: what is not set spares its indexes.
	updateCredential = setCredential + whereAsExpected

	// replaceCredential is updateCredential that keeps the present credential as the previous one.
	replaceCredential = `UPDATE providers SET prev_version = credential_version, prev_key_id = key_id,
			prev_ciphertext = ciphertext, prev_user = smtp_user, prev_set_at = set_at, prev_set_by = set_by,
			prev_until = $6, credential_version = $1, ciphertext = $2, set_at = $3, set_by = $4, changed = $5, sequence = $9
		WHERE instance = $7 AND id = $8 AND sequence = $10 AND key_id = $11`

	// Neither kind nor created ever change; leaving them out spares an index.
	updateProvider = setCredential + `, key_id = $18, active = $19, description = $20, sender_address = $21,
			sender_name = $22, reply_to = $23, host = $24, tls = $25, smtp_user = $26, auth = $27,
			token_endpoint = $28, client_id = $29, scopes = $30, endpoint = $31, ca = $32` + whereAsExpected

	deleteProvider = `DELETE FROM providers WHERE instance = $1 AND id = $2 AND sequence = $3`
)

// sqliteChange is a change with all that can be made ready before the transaction, which others wait for.
type sqliteChange struct {
	change
	former   bool // another provider may be the active one before
	query    string
	args     []any // of the query; the sequence of the change is missing
	sequence int   // where it is missing
	event    []any // of insertEvent; the sequence is missing there too, and the chain
	none     error // when the query touches no row

	// What args and event mostly are in, so that they are allocated with the change.
	argsIn  [16]any
	eventIn [13]any
}

// Where the event of a change lacks its sequence and its chain.
const (
	sequenceOfEvent = 1
	chainOfEvent    = 12
)

func newSQLiteChange(c change) *sqliteChange {
	s := &sqliteChange{change: c, query: deleteProvider, none: emailprovider.ErrConflict}
	again := common{instance: c.Event.Instance, id: c.Event.ProviderID, at: micros(c.Event.At), name: c.Event.By.Name}
	s.event = appendEvent(s.eventIn[:0], &s.change, again)
	if c.Put == nil {
		s.args, s.sequence = append(s.argsIn[:0], again.instance, again.id, signed(c.Expect)), -1
		return s
	}
	s.put(again)
	return s
}

// common are values that a change and its event have in common, each of which is allocated once.
type common struct{ instance, id, at, name any }

// time returns a time as a value.
func (s *common) time(t int64) any {
	if t == s.at {
		return s.at
	}
	return t
}

// by returns a name as a value.
func (s *common) by(name string) any {
	if name == s.name {
		return s.name
	}
	return name
}

// put has the change write its row.
func (s *sqliteChange) put(again common) {
	r := &s.row
	s.former = r.active && !s.alike
	keyID, ciphertext := r.secret()
	s.args = append(s.argsIn[:0], r.credentialVersion, ciphertext, again.time(r.setAt), again.by(r.setBy), again.time(r.changed))
	if s.leavesSettings() && s.replaces {
		s.query, s.sequence = replaceCredential, 8
		s.args = append(s.args, r.previous.until, again.instance, again.id, nil, signed(s.Expect), s.ExpectKey)
		return
	}
	s.args = r.previous.columns(s.args)
	s.sequence = len(s.args) + 2
	s.args = append(s.args, again.instance, again.id, nil)
	if s.Expect == 0 {
		s.query, s.none = insertProvider, emailprovider.ErrIDTaken
		s.args = append(append(append(s.args, keyID), r.settings()...), r.kind, again.time(r.created))
		return
	}
	s.args = append(s.args, signed(s.Expect), s.ExpectKey)
	if s.leavesSettings() {
		s.query = updateCredential
		return
	}
	s.query, s.args = updateProvider, append(append(s.args, keyID), r.settings()...)
}

// settings are the columns of a row that are neither of its credential nor of its identity.
func (r *providerRow) settings() []any {
	return []any{
		r.active, r.description, r.senderAddress, r.senderName, r.replyTo, r.host, r.tls, r.user,
		r.auth, r.tokenEndpoint, r.clientID, r.scopes, r.endpoint, r.ca,
	}
}

func (r *providerRow) sameSettings(as *providerRow) bool {
	return r.active == as.active && r.description == as.description && r.senderAddress == as.senderAddress &&
		r.senderName == as.senderName && r.replyTo == as.replyTo && r.host == as.host && r.tls == as.tls &&
		r.user == as.user && r.auth == as.auth && r.tokenEndpoint == as.tokenEndpoint &&
		r.clientID == as.clientID && r.scopes == as.scopes && r.endpoint == as.endpoint && r.ca == as.ca
}

func (s *sqliteEngine) apply(ctx context.Context, c change) (uint64, error) {
	made := newSQLiteChange(c)
	var sequence uint64
	err := s.write(ctx, write{of: cachedProviders, clean: true, do: func(l *line) (err error) {
		sequence, err = made.apply(l)
		return err
	}})
	if err != nil {
		return 0, err
	}
	return sequence, nil
}

// apply makes the change in a transaction that may hold others; after an error the caller undoes what was done
// since before the call. What can be refused goes first, so that there mostly is nothing.
func (s *sqliteChange) apply(l *line) (sequence uint64, err error) {
	last, err := l.ends.get(l, s.Event.Instance)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("sqlstore: no instance %q", s.Event.Instance)
	}
	if err != nil {
		return 0, err
	}
	next := any(last.sequence + 1)
	if s.former {
		if _, err := l.exec(updateFormerActive, s.Event.Instance, s.Event.ProviderID, micros(s.Put.Changed), next); err != nil {
			return 0, err
		}
	}
	if s.sequence >= 0 {
		s.args[s.sequence] = next
	}
	if err := l.execOne(s.none, s.query, s.args...); err != nil {
		return 0, err
	}
	sequence = uint64(last.sequence) + 1
	chain, head := s.add(sequence, last.head)
	l.ends.pending[s.Event.Instance] = end{int64(sequence), head, last.sorted}
	s.event[sequenceOfEvent], s.event[chainOfEvent] = next, blob(chain)
	return sequence, l.execOne(emailprovider.ErrIDTaken, insertEvent, s.event...)
}
