package app_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// What of the store must be equal, in an order that ids have no part in. Left out is what is random
// (hashes, keys, ciphertexts, of which the length is compared), what differs by intention (protocol and
// request id) and the uses of deprecated methods, which are stored later: ListDeprecatedUses has them.
var stateQueries = []string{
	`SELECT 'instance', id, sequence FROM instances ORDER BY id`,
	`SELECT 'provider', id, kind, active, description, sender_address, sender_name, reply_to, host, tls, smtp_user, auth,
		token_endpoint, client_id, scopes, endpoint, credential_version, length(ciphertext), set_at, set_by, created, changed, sequence,
		prev_version, length(prev_ciphertext), prev_user, prev_set_at, prev_set_by, prev_until FROM providers ORDER BY created, id`,
	`SELECT 'token', id, name, length(hash), roles, created, expires FROM tokens ORDER BY created, id`,
	`SELECT 'revoked', id, revoked FROM revoked_tokens ORDER BY revoked, id`,
	`SELECT 'message', id, state, open, due, expires, fence, changed, created, attempts, provider_id, credential_version, tag,
		idempotency_key, length(fingerprint), recipient, recipients, reason, last_attempt FROM messages ORDER BY created, id`,
	`SELECT 'recipient', address, id FROM message_recipients ORDER BY id, address`,
	`SELECT 'content', id, length(ciphertext) FROM message_contents ORDER BY id`,
	`SELECT 'use', provider_id, version, first_used, last_success, last_failure, failure_step, failure_code, failure_text, mails,
		failures, probe, cert_expires FROM credential_uses ORDER BY provider_id, version`,
}

const eventsQuery = `SELECT sequence, type, provider_id, at, token_id, name, procedure, user_agent, details FROM events
	WHERE sequence > ? ORDER BY sequence`

// openState opens a service's database beside it, to read.
func openState(t testing.TB, dataDir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dataDir, "mailkeep.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// rows returns each row of an answer as a line.
func rows(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	found, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = found.Close() }()
	columns, err := found.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for found.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := found.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var line strings.Builder
		for _, v := range values {
			if text, ok := v.([]byte); ok {
				v = string(text)
			}
			_, _ = fmt.Fprintf(&line, "%#v ", v)
		}
		lines = append(lines, line.String())
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// column returns the first column of an answer, as texts.
func column(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	var texts []string
	for _, line := range rows(t, db, query) {
		texts = append(texts, strings.Trim(strings.TrimSpace(line), `"`))
	}
	return texts
}
