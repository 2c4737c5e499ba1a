package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

const (
	// What a settlement does not say stays as it is.
	settled = ` changed = $5, reason = $6, recipients = COALESCE($7, recipients), attempts = attempts + $8,
			provider_id = COALESCE($9, provider_id), credential_version = COALESCE($10, credential_version), fence = fence + 1` + inTransaction
	selectSettled = `SELECT 1 FROM messages WHERE instance = $1 AND id = $2 /*pg FOR UPDATE */`

	stillHeld = ` WHERE instance = $1 AND id = $2 AND fence = $3 AND state = 'sending'`

	updateFinished = `UPDATE messages SET state = $4, open = FALSE, due = 0, last_attempt = $11,` + settled + stillHeld
	updatePutBack  = `UPDATE messages SET state = 'queued', due = $4,` + settled + stillHeld + ` RETURNING attempts`
	insertAttempt  = `INSERT INTO attempts (instance, id, number, record) VALUES ($1, $2, $3, $4)`

	deleteContents = `DELETE FROM message_contents WHERE instance = $1 AND id IN `

	selectVersion = `SELECT credential_version FROM providers WHERE instance = $1 AND id = $2 /*pg FOR SHARE */`
)

// Settle implements outbox.Queue.
func (db *DB) Settle(ctx context.Context, settlements []outbox.Settlement) ([]outbox.Lease, error) {
	rows := make([]settlementRow, len(settlements))
	for i := range settlements {
		var err error
		if rows[i], err = newSettlementRow(&settlements[i]); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(rows, func(a, b settlementRow) int { return inOrder(a.Lease, b.Lease) })
	if err := db.engine.settle(ctx, rows); err != nil {
		return nil, err
	}
	var refused []outbox.Lease
	for i := range rows {
		if rows[i].refused {
			refused = append(refused, rows[i].Lease)
		}
	}
	return refused, nil
}

// settlementRow is a settlement with its columns.
type settlementRow struct {
	*outbox.Settlement
	recipients, attempt, providerID sql.NullString
	version                         sql.NullInt64
	attempts                        int // how many it adds

	refused bool // set when it is recorded, or not
}

func newSettlementRow(s *outbox.Settlement) (r settlementRow, err error) {
	if s.State == outbox.Sending || s.State == outbox.Cancelled {
		return r, fmt.Errorf("sqlstore: mail %s can not be settled as %s", s.ID, s.State)
	}
	r.Settlement = s
	if len(s.Recipients) > 0 {
		r.recipients.Valid = true
		if r.recipients.String, err = formatRecipients(s.Recipients); err != nil {
			return r, err
		}
	}
	if a := s.Attempt; a != nil {
		r.attempts = 1
		r.providerID = sql.NullString{String: a.ProviderID, Valid: true}
		r.version = sql.NullInt64{Int64: signed(a.CredentialVersion), Valid: true}
		r.attempt.Valid = true
		r.attempt.String, err = formatAttempt(a)
	}
	return r, err
}

// due is when the mail can be claimed next, 0 for never.
func (r *settlementRow) due() int64 {
	if r.State != outbox.Queued {
		return 0
	}
	return micros(r.Due)
}

// erases reports whether the mail loses its content.
func (r *settlementRow) erases() bool { return !r.State.Open() && !r.Keep }

// blames reports whether the mail comes back because of the credential, which may be another one by now.
func (r *settlementRow) blames() bool {
	return r.CredentialRefused && r.Attempt != nil && r.State == outbox.Queued
}

// settler records settlements in one transaction, and what they have in common only once.
type settler struct {
	*line
	erase map[string][]string // ids by instance
	uses  credentialUses
}

// settle records settlements, which are in order.
func (s *settler) settle(all []*settlementRow) error {
	var finished, untried, failed []*settlementRow
	for _, r := range all {
		switch {
		case r.State != outbox.Queued:
			finished = append(finished, r)
		case r.Attempt == nil:
			untried = append(untried, r)
		default:
			failed = append(failed, r)
		}
	}
	if max(len(finished), len(untried), len(failed)) < len(all) { // in order one by one is not in order together
		if err := s.hold(all); err != nil {
			return err
		}
	}
	for _, r := range failed {
		if err := s.putBack(r); err != nil {
			return err
		}
	}
	if err := s.recordAll(untried, updatePutBack, func(r *settlementRow) []any { return r.queued(r.due()) }); err != nil {
		return err
	}
	return s.recordAll(finished, updateFinished, (*settlementRow).finished)
}

// hold lets nobody else change the mails.
func (s *settler) hold(all []*settlementRow) error {
	rows := make([][]any, len(all))
	for i := range all {
		rows[i] = []any{all[i].Instance, all[i].ID}
	}
	_, err := s.execAll(selectSettled, rows)
	return err
}

// recordAll records settlements that ask nothing but whether the mail is still held.
func (s *settler) recordAll(all []*settlementRow, query string, columns func(*settlementRow) []any) error {
	rows := make([][]any, len(all))
	for i, r := range all {
		rows[i] = columns(r)
	}
	touched, err := s.execAll(query, rows)
	if err != nil {
		return err
	}
	for i, r := range all {
		s.settled(r, touched[i] > 0)
	}
	return nil
}

// queued are the arguments of updatePutBack.
func (r *settlementRow) queued(due int64) []any {
	return []any{r.Instance, r.ID, signed(r.Fence), due, micros(r.At), r.Reason, r.recipients, r.attempts, r.providerID, r.version}
}

// finished are the arguments of updateFinished.
func (r *settlementRow) finished() []any {
	return []any{r.Instance, r.ID, signed(r.Fence), string(r.State), micros(r.At), r.Reason, r.recipients, r.attempts,
		r.providerID, r.version, r.attempt}
}

// settled takes note of what was recorded, or refused.
func (s *settler) settled(r *settlementRow, held bool) {
	if r.refused = !held; r.refused {
		return
	}
	if r.erases() {
		if s.erase == nil {
			s.erase = map[string][]string{}
		}
		s.erase[r.Instance] = append(s.erase[r.Instance], r.ID)
	}
	s.uses.add(r.Settlement)
}

// putBack records an attempt that has failed for now.
func (s *settler) putBack(r *settlementRow) error {
	due := r.due()
	if r.blames() {
		superseded, err := s.superseded(r)
		if err != nil {
			return err
		}
		if superseded {
			due = micros(r.At)
		}
	}
	number, err := s.number(updatePutBack, r.queued(due)...)
	held := !errors.Is(err, sql.ErrNoRows)
	if err != nil && held {
		return err
	}
	s.settled(r, held)
	if !held {
		return nil
	}
	_, err = s.exec(insertAttempt, r.Instance, r.ID, number, r.attempt.String)
	return err
}

// superseded reports whether the provider has another credential than the one of the attempt, or is gone.
func (s *settler) superseded(r *settlementRow) (bool, error) {
	present, err := s.number(selectVersion, r.Instance, r.Attempt.ProviderID)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return present != r.version.Int64, err
}

// eraseContents erases what settled mails said.
func (s *settler) eraseContents() error {
	for instance, ids := range s.erase {
		if err := eraseMails.exec(s.line, ids, instance); err != nil {
			return err
		}
	}
	return nil
}

// finish records what the settlements have in common.
func (s *settler) finish() error {
	if err := s.eraseContents(); err != nil {
		return err
	}
	_, err := s.execAll(upsertCredentialUse, s.uses.rows())
	return err
}
