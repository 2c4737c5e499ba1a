package sqlstore

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// changeRow is a change as the columns of applyChanges.
type changeRow struct {
	texts   [len(changeTexts)]string
	numbers [len(changeNumbers)]int64
	flags   [len(changeFlags)]bool
	bytes   [len(changeBytes)][]byte
}

// The columns of a change. Those of providers have their names there, those of events begin with e_.
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
	changeBytes = [...]string{"ciphertext", "prev_ciphertext", "tag"}
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
	r.bytes = [...][]byte{p.ciphertext, v.ciphertext, c.tag}
	return r
}

// changeColumn is a column of a change.
type changeColumn struct {
	of   uint32 // its type
	at   int    // among those of the type
	with int    // which of changeBytes it is NULL without, or -1
}

// changeColumns are all, by name.
var changeColumns = func() map[string]changeColumn {
	all := map[string]changeColumn{}
	for of, names := range map[uint32][]string{
		textType: changeTexts[:], int8Type: changeNumbers[:], boolType: changeFlags[:], byteaType: changeBytes[:],
	} {
		for at, name := range names {
			with := slices.Index(changeBytes[:], name)
			switch {
			case name == "key_id":
				with = slices.Index(changeBytes[:], "ciphertext")
			case strings.HasPrefix(name, "prev_"):
				with = slices.Index(changeBytes[:], "prev_ciphertext")
			}
			all[name] = changeColumn{of, at, with}
		}
	}
	return all
}()

// changeParams returns columns of changes as arguments, of which each is an array.
func changeParams(rows []*changeRow, columns []changeColumn) (p params) {
	size := 20 * len(columns)
	for _, r := range rows {
		size += r.size()
	}
	p.buffer, p.ends = make([]byte, 0, size), make([]int, 0, len(columns))
	for _, c := range columns {
		p.array(len(rows), c.of)
		for _, r := range rows {
			c.element(&p, r)
		}
		p.end()
	}
	return p
}

// element appends the column of a row.
func (c changeColumn) element(p *params, r *changeRow) {
	if c.with >= 0 && len(r.bytes[c.with]) == 0 {
		p.null()
		return
	}
	switch c.of {
	case textType:
		p.element(r.texts[c.at])
	case int8Type:
		p.word(8)
		p.buffer = binary.BigEndian.AppendUint64(p.buffer, uint64(r.numbers[c.at]))
	case boolType:
		p.word(1)
		p.buffer = append(p.buffer, flagByte(r.flags[c.at]))
	case byteaType:
		p.word(uint32(len(r.bytes[c.at])))
		p.buffer = append(p.buffer, r.bytes[c.at]...)
	}
}

// size returns how many bytes all columns of the row take at most.
func (r *changeRow) size() int {
	n := 4*len(r.texts) + 12*len(r.numbers) + 5*len(r.flags) + 4*len(r.bytes)
	for _, v := range r.texts {
		n += len(v)
	}
	for _, v := range r.bytes {
		n += len(v)
	}
	return n
}

// applyChanges makes those of many changes that fit, with their events, and answers for each of these its
// number from 1 and its sequence. Parts that the changes at hand have no use for are left out, and columns that
// no part needs: each costs, used or not.
type applyChanges struct {
	additions, removals bool
	updates             bool
	settings            bool // some updates set more than a credential
	previous            bool // some do not keep the present credential as the previous one
}

// applyText is how applyChanges is sent.
type applyText struct {
	query   string
	columns []changeColumn // its arguments
}

var applyTexts sync.Map // of *applyText by applyChanges

// add takes note of what a change needs.
func (a *applyChanges) add(c *change) {
	switch {
	case c.Put == nil:
		a.removals = true
	case c.Expect == 0:
		a.additions = true
	default:
		a.updates = true
		a.settings = a.settings || !c.leavesSettings()
		a.previous = a.previous || !c.leavesSettings() || !c.replaces
	}
}

func (a applyChanges) text() *applyText {
	if text, ok := applyTexts.Load(a); ok {
		return text.(*applyText)
	}
	text := newApplyText(a.compose())
	applyTexts.Store(a, text)
	return text
}

// changeReference is @name for a column of all changes, an array, and c.name for that of the change c.n.
var changeReference = regexp.MustCompile(`(@|\bc\.)(\w+)`)

// newApplyText has a query take columns of changes from its arguments, where it needs them: rows that have them
// all would be copied at each step.
func newApplyText(query string) *applyText {
	t := &applyText{}
	var names []string
	t.query = changeReference.ReplaceAllStringFunc(query, func(reference string) string {
		parts := changeReference.FindStringSubmatch(reference)
		name := parts[2]
		column, ok := changeColumns[name]
		if !ok {
			return reference // of a part of the query
		}
		at := slices.Index(names, name)
		if at < 0 {
			at = len(names)
			names, t.columns = append(names, name), append(t.columns, column)
		}
		array := fmt.Sprintf("$%d::%s[]", at+1, typeNames[column.of])
		if parts[1] == "@" {
			return array
		}
		return "(" + array + ")[c.n]"
	})
	return t
}

var typeNames = map[uint32]string{textType: "text", int8Type: "bigint", boolType: "boolean", byteaType: "bytea"}

// compose looks up what each change is of for that change: joined freely, PostgreSQL would go through whole tables
// if its statistics are of a time when they were small. Rows that are held stay at their place.
func (a applyChanges) compose() string {
	text := `WITH fit AS (
			SELECT c.n, p.place, i.place AS instance_place, i.chain_head AS head, i.sequence + row_number() OVER w AS seq,
				lag(c.tag) OVER w AS tag_before, lead(c.n) OVER w IS NULL AS latest
			FROM generate_subscripts(@instance, 1) AS c (n)
				CROSS JOIN LATERAL (SELECT ctid AS place, sequence, chain_head FROM instances WHERE id = c.instance OFFSET 0) AS i
				LEFT JOIN LATERAL (SELECT ctid AS place, id, sequence, key_id, credential_version, prev_version
					FROM providers WHERE instance = c.instance AND id = c.id OFFSET 0) AS p ON TRUE
			WHERE ` + a.fits() + `
			WINDOW w AS (PARTITION BY i.place ORDER BY c.n)
		)` + chainChanges + `, recorded AS (
			INSERT INTO events (instance, sequence, type, provider_id, at, token_id, name, protocol, procedure, user_agent, request_id, details, chain)
			SELECT c.instance, c.seq, c.e_type, c.id, c.e_at, c.e_token_id, c.e_name, c.e_protocol, c.e_procedure, c.e_user_agent,
				c.e_request_id, c.e_details, ` + chainOfChange + ` FROM chained AS c
		), counted AS (
			UPDATE instances AS i SET sequence = c.seq, chain_head = ` + macOfChange + ` FROM chained AS c WHERE i.ctid = c.instance_place AND c.latest
		)`
	set, from := a.written()
	remaining := ""
	if a.removals {
		remaining = " AND NOT c.removal"
	}
	if a.updates {
		text += `, updated AS (
			UPDATE providers AS p SET (` + set + `, sequence) = ROW (` + from + `, c.seq)
			FROM chained AS c WHERE p.ctid = c.place` + remaining + `
		)`
	}
	if a.additions {
		text += `, inserted AS (
			INSERT INTO providers (` + set + `, sequence, instance, id, kind, created)
			SELECT ` + from + `, c.seq, c.instance, c.id, c.kind, c.created FROM chained AS c WHERE c.expect = 0
		)`
	}
	if a.removals {
		text += `, deleted AS (
			DELETE FROM providers AS p USING chained AS c WHERE p.ctid = c.place AND c.removal
		)`
	}
	return text + ` SELECT n::bigint, seq FROM chained`
}

// fits is the condition under which a change is made.
func (a applyChanges) fits() string {
	switch {
	case a.additions || a.removals:
		return fitting
	case a.previous:
		return asExpected
	}
	return asReplaced
}

// written are the columns of providers that changes set, and what they set them to.
func (a applyChanges) written() (columns, values string) {
	set := []string{
		"prev_version", "prev_key_id", "prev_ciphertext", "prev_user", "prev_set_at", "prev_set_by",
		"prev_until", "credential_version", "ciphertext", "set_at", "set_by", "changed",
	}
	to := []string{"p.credential_version", "p.key_id", "p.ciphertext", "p.smtp_user", "p.set_at", "p.set_by"}
	if a.previous || a.additions {
		to = nil
	}
	if a.settings || a.additions {
		set = append(set, "key_id", "active", "description", "sender_address", "sender_name", "reply_to", "host", "tls",
			"smtp_user", "auth", "token_endpoint", "client_id", "scopes", "endpoint", "ca")
	}
	for _, name := range set[len(to):] {
		to = append(to, "c."+name)
	}
	return strings.Join(set, ", "), strings.Join(to, ", ")
}
