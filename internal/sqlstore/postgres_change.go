package sqlstore

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// changeRow is a change as the columns of applyChanges.
type changeRow struct {
	texts   [len(changeTexts)]string
	numbers [len(changeNumbers)]int64
	flags   [len(changeFlags)]bool
	bytes   [len(changeBytes)][]byte
}

// The columns of the type provider_change_2, in its order. Those of providers have their names there, those of events begin with e_.
var (
	changeTexts = [...]string{
		"instance", "id", "kind", "description", "sender_address", "sender_name", "reply_to", "host", "smtp_user", "auth",
		"token_endpoint", "client_id", "scopes", "endpoint", "set_by", "prev_user", "prev_set_by",
		"e_type", "e_token_id", "e_name", "e_protocol", "e_procedure", "e_user_agent", "e_request_id", "e_details", "ca",
	}
	changeNumbers = [...]string{
		"expect", "expect_key", "credential_version", "key_id", "set_at", "created", "changed",
		"prev_version", "prev_key_id", "prev_set_at", "prev_until", "e_at",
	}
	changeFlags = [...]string{"removal", "active", "tls"}
	changeBytes = [...]string{"ciphertext", "prev_ciphertext"}
)

func newChangeRow(c *change) (r changeRow) {
	e, p, v := &c.Event, &c.row, &c.row.previous
	r.texts = [...]string{
		e.Instance, e.ProviderID, p.kind, p.description, p.senderAddress, p.senderName, p.replyTo, p.host, p.user, p.auth,
		p.tokenEndpoint, p.clientID, p.scopes, p.endpoint, p.setBy, v.user, v.setBy,
		string(e.Type), e.By.TokenID, e.By.Name, e.By.Protocol, e.By.Procedure, e.By.UserAgent, e.By.RequestID, c.details, p.ca,
	}
	r.numbers = [...]int64{
		signed(c.Expect), int64(c.ExpectKey), signed(p.credentialVersion), int64(p.keyID), p.setAt, p.created, p.changed,
		signed(v.version), int64(v.keyID), v.setAt, v.until, micros(e.At),
	}
	r.flags = [...]bool{c.Put == nil, p.active, p.tls}
	r.bytes = [...][]byte{p.ciphertext, v.ciphertext}
	return r
}

// changeParams returns changes as the arguments of applyChanges: an array of a composite type, and their
// events' tags.
func changeParams(rows []*changeRow, tags [][]byte, changeType uint32) (p params) {
	size := 0
	for i, r := range rows {
		size += r.size() + 4 + len(tags[i])
	}
	p.buffer = make([]byte, 0, 40+size)
	p.array(len(rows), changeType)
	for _, r := range rows {
		r.element(&p)
	}
	p.end()
	p.array(len(tags), byteaType)
	for _, tag := range tags {
		p.word(uint32(len(tag)))
		p.buffer = append(p.buffer, tag...)
	}
	p.end()
	return p
}

// element appends the row as an element: how many columns it has, and each with its type.
func (r *changeRow) element(p *params) {
	p.word(uint32(r.size() - 4))
	p.word(uint32(len(r.texts) + len(r.numbers) + len(r.flags) + len(r.bytes)))
	for _, v := range r.texts {
		p.word(textType)
		p.element(v)
	}
	for _, v := range r.numbers {
		p.word(int8Type)
		p.word(8)
		p.buffer = binary.BigEndian.AppendUint64(p.buffer, uint64(v))
	}
	for _, v := range r.flags {
		p.word(boolType)
		p.word(1)
		p.buffer = append(p.buffer, flagByte(v))
	}
	for _, v := range r.bytes {
		p.word(byteaType)
		p.word(uint32(len(v)))
		p.buffer = append(p.buffer, v...)
	}
}

// size returns how many bytes the row takes as an element.
func (r *changeRow) size() int {
	n := 8 + 8*len(r.texts) + 16*len(r.numbers) + 9*len(r.flags) + 8*len(r.bytes)
	for _, v := range r.texts {
		n += len(v)
	}
	for _, v := range r.bytes {
		n += len(v)
	}
	return n
}

// Columns that are NULL when there is nothing, which a change says as zero.
var nullable = []string{"key_id", "ciphertext", "prev_version", "prev_key_id", "prev_ciphertext", "prev_user", "prev_set_at", "prev_set_by", "prev_until"}

// applyChanges makes those of many changes that fit, with their events, and answers for each its number
// from 1, its sequence, 0 if it does not fit, and whether its instance exists. Parts that the changes at
// hand have no use for are left out: each costs, used or not.
type applyChanges struct{ additions, updates, removals bool }

var applyTexts sync.Map // of applyChanges

// add takes note of what a change needs.
func (a *applyChanges) add(c emailprovider.Change) {
	switch {
	case c.Put == nil:
		a.removals = true
	case c.Expect == 0:
		a.additions = true
	default:
		a.updates = true
	}
}

func (a applyChanges) text() string {
	if text, ok := applyTexts.Load(a); ok {
		return text.(string)
	}
	text := a.compose()
	applyTexts.Store(a, text)
	return text
}

func (a applyChanges) compose() string {
	var written, values []string
	columns := slices.Concat(changeTexts[:], changeNumbers[:], changeFlags[:], changeBytes[:])
	for _, name := range columns {
		if strings.HasPrefix(name, "e_") || slices.Contains([]string{"instance", "id", "kind", "created", "expect", "expect_key", "removal"}, name) {
			continue
		}
		written = append(written, name)
		values = append(values, stored(name))
	}
	set, from := strings.Join(written, ", "), strings.Join(values, ", ")
	text := `WITH c AS (
			SELECT c.*, i.sequence AS last, i.chain_head, COALESCE(` + fitting + `, FALSE) AND i.id IS NOT NULL AS fits
			FROM unnest($1::provider_change_2[], $2::bytea[]) WITH ORDINALITY AS c (` + strings.Join(columns, ", ") + `, tag, n)
			LEFT JOIN instances AS i ON i.id = c.instance LEFT JOIN providers AS p ON p.instance = c.instance AND p.id = c.id
		), ok AS MATERIALIZED (
			SELECT *, last + count(*) FILTER (WHERE fits) OVER (PARTITION BY instance ORDER BY n) AS seq FROM c
		)` + chainChanges + `, recorded AS (
			INSERT INTO events (instance, sequence, type, provider_id, at, token_id, name, protocol, procedure, user_agent, request_id, details, chain)
			SELECT instance, seq, e_type, id, e_at, e_token_id, e_name, e_protocol, e_procedure, e_user_agent, e_request_id, e_details, chain FROM chained
		), counted AS (
			UPDATE instances AS i SET sequence = c.seq, chain_head = c.mac FROM chained AS c WHERE i.id = c.instance AND c.latest
		)`
	if a.updates {
		text += `, updated AS (
			UPDATE providers AS p SET (` + set + `, sequence) = ROW (` + from + `, ok.seq)
			FROM ok WHERE ok.fits AND ok.expect > 0 AND NOT ok.removal AND p.instance = ok.instance AND p.id = ok.id
		)`
	}
	if a.additions {
		text += `, inserted AS (
			INSERT INTO providers (` + set + `, sequence, instance, id, kind, created)
			SELECT ` + from + `, ok.seq, ok.instance, ok.id, ok.kind, ok.created FROM ok WHERE ok.fits AND ok.expect = 0
		)`
	}
	if a.removals {
		text += `, deleted AS (
			DELETE FROM providers AS p USING ok WHERE ok.fits AND ok.removal AND p.instance = ok.instance AND p.id = ok.id
		)`
	}
	return text + ` SELECT n, CASE WHEN fits THEN seq ELSE 0 END, last IS NOT NULL FROM ok`
}

// stored is the value of a column of providers.
func stored(name string) string {
	switch {
	case !slices.Contains(nullable, name):
		return "ok." + name
	case strings.HasPrefix(name, "prev_"):
		return "CASE WHEN length(ok.prev_ciphertext) > 0 THEN ok." + name + " END"
	}
	return "CASE WHEN length(ok.ciphertext) > 0 THEN ok." + name + " END"
}
