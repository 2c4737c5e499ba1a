package sqlstore

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

const (
	// A failure comes as a whole: its time says whether it is later than the one known. $14 is
	// whether the breaker changes at all. While it is open its probe only moves back, and a login before the
	// last failure, at $15, does not close it.
	upsertCredentialUse = `INSERT INTO credential_uses AS u (instance, provider_id, version, first_used, last_success,
			last_failure, failure_step, failure_code, failure_text, mails, failures, probe, cert_expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (instance, provider_id, version) DO UPDATE SET
			first_used = CASE WHEN u.first_used = 0 OR excluded.first_used > 0 AND excluded.first_used < u.first_used
				THEN excluded.first_used ELSE u.first_used END,
			last_success = CASE WHEN excluded.last_success > u.last_success THEN excluded.last_success ELSE u.last_success END,
			last_failure = CASE WHEN excluded.last_failure >= u.last_failure THEN excluded.last_failure ELSE u.last_failure END,
			failure_step = CASE WHEN excluded.last_failure > 0 AND excluded.last_failure >= u.last_failure
				THEN excluded.failure_step ELSE u.failure_step END,
			failure_code = CASE WHEN excluded.last_failure > 0 AND excluded.last_failure >= u.last_failure
				THEN excluded.failure_code ELSE u.failure_code END,
			failure_text = CASE WHEN excluded.last_failure > 0 AND excluded.last_failure >= u.last_failure
				THEN excluded.failure_text ELSE u.failure_text END,
			mails = u.mails + excluded.mails,
			failures = u.failures + excluded.failures,
			probe = CASE WHEN NOT $14 OR excluded.probe > 0 AND excluded.probe < u.probe
				OR excluded.probe = 0 AND $15 < u.last_failure THEN u.probe ELSE excluded.probe END,
			cert_expires = CASE WHEN excluded.cert_expires > 0 THEN excluded.cert_expires ELSE u.cert_expires END`

	selectCredentialUses = `SELECT version, first_used, last_success, last_failure, failure_step, failure_code,
			failure_text, mails, failures, probe, cert_expires
		FROM credential_uses WHERE instance = $1 AND provider_id = $2 ORDER BY version DESC LIMIT $3`
)

// CredentialUses implements outbox.Store.
func (db *DB) CredentialUses(ctx context.Context, instance, providerID string, limit int) ([]outbox.Use, error) {
	return all(ctx, db, func(row scanner) (u outbox.Use, err error) {
		var first, success, failure, probe, cert int64
		err = row.Scan(&u.Version, &first, &success, &failure, &u.FailureStep, &u.FailureCode, &u.FailureText,
			&u.Mails, &u.Failures, &probe, &cert)
		u.FirstUsed, u.LastSuccess, u.LastFailure = fromMicros(first), fromMicros(success), fromMicros(failure)
		u.Probe, u.CertExpires = fromMicros(probe), fromMicros(cert)
		return u, err
	}, selectCredentialUses, instance, providerID, limit)
}

// credentialUses sums up what settlements say of credentials.
type credentialUses struct {
	of map[credentialKey]*credentialUse
}

type credentialKey struct {
	instance, providerID string
	version              uint64
}

type credentialUse struct {
	outbox.Use
	refused, loggedIn time.Time // the last time; of a login, when it was begun
}

// breaker returns whether the breaker changes, and its probe.
func (u *credentialUse) breaker() (changes bool, probe time.Time) {
	if u.loggedIn.After(u.refused) {
		return true, time.Time{}
	}
	return !u.refused.IsZero(), u.Probe
}

func (c *credentialUses) add(s *outbox.Settlement) {
	a := s.Attempt
	if a == nil {
		return
	}
	key := credentialKey{s.Instance, a.ProviderID, a.CredentialVersion}
	u := c.of[key]
	if u == nil {
		if c.of == nil {
			c.of = map[credentialKey]*credentialUse{}
		}
		u = new(credentialUse)
		c.of[key] = u
	}
	u.add(s, a)
}

func (u *credentialUse) add(s *outbox.Settlement, a *outbox.Attempt) {
	switch {
	case s.CredentialRefused:
		u.refused, u.Probe = latest(u.refused, a.Ended), latest(u.Probe, latest(s.Due, s.At))
	case a.Authenticated():
		u.loggedIn = latest(u.loggedIn, a.Started)
	}
	if (a.Accepted || a.Authenticated()) && (u.FirstUsed.IsZero() || a.Ended.Before(u.FirstUsed)) {
		u.FirstUsed = a.Ended
	}
	if a.Accepted {
		u.Mails++
		u.LastSuccess = latest(u.LastSuccess, a.Ended)
	} else {
		u.Failures++
		if !a.Ended.Before(u.LastFailure) {
			u.LastFailure, u.FailureStep, u.FailureCode, u.FailureText = a.Ended, a.Step, a.Code, ""
			if !a.LoggedIn() { // else it is about the mail, which is nobody's business here
				u.FailureText = a.Text
			}
		}
	}
	if !s.CertExpires.IsZero() {
		u.CertExpires = s.CertExpires
	}
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// rows are arguments of upsertCredentialUse, in one order, so that nobody waits for somebody who waits for him.
func (c *credentialUses) rows() [][]any {
	keys := slices.SortedFunc(maps.Keys(c.of), credentialKey.compare)
	rows := make([][]any, len(keys))
	for i, key := range keys {
		u := c.of[key]
		breaker, probe := u.breaker()
		rows[i] = []any{key.instance, key.providerID, signed(key.version),
			micros(u.FirstUsed), micros(u.LastSuccess), micros(u.LastFailure), string(u.FailureStep), u.FailureCode,
			u.FailureText, u.Mails, u.Failures, micros(probe), micros(u.CertExpires), breaker,
			micros(u.loggedIn)}
	}
	return rows
}

func (k credentialKey) compare(other credentialKey) int {
	return cmp.Or(cmp.Compare(k.instance, other.instance), cmp.Compare(k.providerID, other.providerID), cmp.Compare(k.version, other.version))
}
