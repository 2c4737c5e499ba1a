package sqlstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// mostChanges is how many changes share a transaction, and one round trip.
const mostChanges = 64

// changing is a change that somebody waits for.
type changing struct {
	emailprovider.Change
	row     changeRow
	applied uint64 // its sequence, once it is made
}

func (p *postgresEngine) apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("sqlstore: %w", err)
	}
	row, err := newChangeRow(c)
	if err != nil {
		return 0, err
	}
	ask := &changing{Change: c, row: row}
	if err := p.changes.await(ctx, p.patience, &job[*changing]{ask: ask}); err != nil {
		return 0, err // what it has set is not to be read
	}
	return ask.applied, nil
}

// applyQueue makes the changes that wait.
func (p *postgresEngine) applyQueue() {
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	conn, err := p.begin(ctx)
	jobs := p.changes.takeBegun(mostChanges) // only now: others have come meanwhile
	if err != nil {
		err = p.failedWrite(ctx, err)
		for _, j := range jobs {
			j.finish(err)
		}
		return
	}
	defer conn.Release()
	for len(jobs) > 0 {
		var together []*job[*changing]
		together, jobs = apart(jobs)
		p.applyTogether(ctx, conn.Conn(), together)
		jobs = slices.DeleteFunc(jobs, func(j *job[*changing]) bool { return tooLate(j, together) })
	}
}

// apart returns the changes that can be made together, and those that must wait until these are made:
// of one provider the first, and of an instance whose active provider changes only that.
func apart(jobs []*job[*changing]) (together, rest []*job[*changing]) {
	taken := map[providerKey]bool{}
	for _, j := range jobs {
		all, one := providerKey{instance: j.ask.Event.Instance}, j.ask.key()
		activating := j.ask.activates()
		anybody := providerKey{instance: all.instance, active: true} // marks an instance with any change
		if taken[all] || taken[one] || activating && taken[anybody] {
			rest = append(rest, j)
			continue
		}
		together = append(together, j)
		taken[one], taken[anybody] = true, true
		if activating {
			taken[all] = true
		}
	}
	return together, rest
}

func (c *changing) key() providerKey {
	return providerKey{instance: c.Event.Instance, id: c.Event.ProviderID}
}

// activates reports whether another provider may become inactive.
func (c *changing) activates() bool {
	return c.Put != nil && c.Put.State == emailprovider.Active && (c.Expect == 0 || c.Event.Type == emailprovider.EventActivated)
}

// tooLate answers a change that was decided on the state before one that is made.
func tooLate(j *job[*changing], made []*job[*changing]) bool {
	for _, m := range made {
		if m.err == nil && m.ask.applied > 0 && m.ask.key() == j.ask.key() && m.ask.Expect == j.ask.Expect && j.ask.Expect > 0 {
			j.finish(emailprovider.ErrConflict)
			return true
		}
	}
	return false
}

// applyTogether makes changes in one transaction and answers who waits for them. When the database
// refuses one of them, each is made by itself.
func (p *postgresEngine) applyTogether(ctx context.Context, conn *pgx.Conn, jobs []*job[*changing]) {
	err := p.applyBatch(ctx, conn, jobs)
	for p.class(err) == collided && ctx.Err() == nil {
		err = p.applyBatch(ctx, conn, jobs)
	}
	if divisible(p, ctx, err) && len(jobs) > 1 {
		for _, j := range jobs {
			p.applyTogether(ctx, conn, []*job[*changing]{j})
		}
		return
	}
	if p.class(err) == uniqueViolation && jobs[0].ask.Expect == 0 {
		err = emailprovider.ErrIDTaken
	}
	err = p.failedWrite(ctx, err)
	for _, j := range jobs {
		j.finish(err)
	}
}

// applyBatch makes changes in one round trip, which is one transaction, and says of each whether it was
// made. Holding the instances first is what makes the rest see the latest state, and one order of them
// keeps processes from waiting for each other.
func (p *postgresEngine) applyBatch(ctx context.Context, conn *pgx.Conn, jobs []*job[*changing]) error {
	batch := pipeline{conn: conn}
	if err := batch.add(ctx, holdInstances, instancesOf(jobs), nil); err != nil {
		return err
	}
	changeType, err := changeTypeOf(ctx, conn)
	if err != nil {
		return err
	}
	var kinds applyChanges
	rows := make([]*changeRow, len(jobs))
	for i, j := range jobs {
		c := j.ask
		if c.activates() || len(jobs) == 1 && c.Put != nil && c.Put.State == emailprovider.Active {
			if err := batch.add(ctx, deactivateFormer, c.former(), nil); err != nil {
				return err
			}
		}
		kinds.add(c.Change)
		rows[i] = &c.row
	}
	err = batch.add(ctx, kinds.text(), changeParams(rows, changeType), eachRow(answers(jobs)))
	if err != nil {
		return err
	}
	return p.committed(conn, batch.run(ctx))
}

// changeTypeOf returns the object identifier of the type provider_change, which each database has its own of.
func changeTypeOf(ctx context.Context, conn *pgx.Conn) (uint32, error) {
	known := conn.PgConn().CustomData()
	if oid, ok := known[changeTypeKey].(uint32); ok {
		return oid, nil
	}
	var oid uint32
	if err := conn.QueryRow(ctx, `SELECT 'provider_change'::regtype::oid`).Scan(&oid); err != nil {
		return 0, err
	}
	known[changeTypeKey] = oid
	return oid, nil
}

const changeTypeKey = "mailkeep.change"

// instancesOf returns the instances of changes as the argument of holdInstances.
func instancesOf(jobs []*job[*changing]) (p params) {
	var instances []string
	for _, j := range jobs {
		instances = append(instances, j.ask.Event.Instance)
	}
	slices.Sort(instances)
	p.texts(slices.Compact(instances))
	return p
}

// former returns the arguments of deactivateFormer.
func (c *changing) former() (p params) {
	p.text(c.Event.Instance)
	p.text(c.Event.ProviderID)
	for _, n := range []int64{micros(c.Put.Changed), signed(c.Expect), int64(c.ExpectKey), signed(c.Put.Previous.Version)} {
		p.number(n)
	}
	return p
}

// answers reads what became of each change.
func answers(jobs []*job[*changing]) func(binaryRow) error {
	return func(row binaryRow) error {
		var n, sequence uint64
		var instance bool
		if err := row.Scan(&n, &sequence, &instance); err != nil {
			return err
		}
		j := jobs[n-1]
		j.ask.applied, j.err = sequence, nil
		switch {
		case sequence > 0:
		case !instance:
			j.err = fmt.Errorf("sqlstore: no instance %q", j.ask.Event.Instance)
		case j.ask.Expect == 0:
			j.err = emailprovider.ErrIDTaken
		default:
			j.err = emailprovider.ErrConflict
		}
		return nil
	}
}

const holdInstances = `SELECT id FROM instances WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE`

// fitting is the condition under which a change may be made, of the change c and the stored provider p:
// that of updateProvider, insertProvider and deleteProvider.
const (
	fitting = `CASE
		WHEN c.expect = 0 THEN p.id IS NULL AND NOT EXISTS (
			SELECT 1 FROM events AS e WHERE e.provider_id = c.id AND e.type = 'provider.added')
		WHEN c.removal THEN p.sequence = c.expect
		ELSE p.sequence = c.expect AND COALESCE(p.key_id, 0) = c.expect_key
			AND (c.prev_version = 0 OR p.prev_version = c.prev_version OR p.credential_version = c.prev_version) END`

	// deactivateFormer goes before applyChanges: an index allows one active provider at any moment.
	deactivateFormer = `UPDATE providers AS f SET active = FALSE, changed = $3, sequence = i.sequence + 1
		FROM instances AS i, (VALUES ($2::text, $4::bigint, $5::bigint, $6::bigint, FALSE)) AS c (id, expect, expect_key, prev_version, removal)
		LEFT JOIN providers AS p ON p.instance = $1 AND p.id = c.id
		WHERE i.id = $1 AND f.instance = $1 AND f.active AND f.id <> $2 AND ` + fitting
)

// changeRow is a change as the columns of applyChanges.
type changeRow struct {
	texts   [len(changeTexts)]string
	numbers [len(changeNumbers)]int64
	flags   [len(changeFlags)]bool
	bytes   [len(changeBytes)][]byte
}

// The columns of the type provider_change, in its order. Those of providers have their names there, those of events begin with e_.
var (
	changeTexts = [...]string{
		"instance", "id", "kind", "description", "sender_address", "sender_name", "reply_to", "host", "smtp_user", "auth",
		"token_endpoint", "client_id", "scopes", "endpoint", "set_by", "prev_user", "prev_set_by",
		"e_type", "e_token_id", "e_name", "e_protocol", "e_procedure", "e_user_agent", "e_request_id", "e_details",
	}
	changeNumbers = [...]string{
		"expect", "expect_key", "credential_version", "key_id", "set_at", "created", "changed",
		"prev_version", "prev_key_id", "prev_set_at", "prev_until", "e_at",
	}
	changeFlags = [...]string{"removal", "active", "tls"}
	changeBytes = [...]string{"ciphertext", "prev_ciphertext"}
)

func newChangeRow(c emailprovider.Change) (r changeRow, err error) {
	e := c.Event
	details, err := formatDetails(e)
	if err != nil {
		return r, err
	}
	var p providerRow
	if c.Put != nil {
		if p, err = newProviderRow(c.Put); err != nil {
			return r, err
		}
	}
	v := &p.previous
	r.texts = [...]string{
		e.Instance, e.ProviderID, p.kind, p.description, p.senderAddress, p.senderName, p.replyTo, p.host, p.user, p.auth,
		p.tokenEndpoint, p.clientID, p.scopes, p.endpoint, p.setBy, v.user, v.setBy,
		string(e.Type), e.By.TokenID, e.By.Name, e.By.Protocol, e.By.Procedure, e.By.UserAgent, e.By.RequestID, details,
	}
	r.numbers = [...]int64{
		signed(c.Expect), int64(c.ExpectKey), signed(p.credentialVersion), int64(p.keyID), p.setAt, p.created, p.changed,
		signed(v.version), int64(v.keyID), v.setAt, v.until, micros(e.At),
	}
	r.flags = [...]bool{c.Put == nil, p.active, p.tls}
	r.bytes = [...][]byte{p.ciphertext, v.ciphertext}
	return r, nil
}

// changeParams returns changes as the argument of applyChanges, an array of a composite type.
func changeParams(rows []*changeRow, changeType uint32) (p params) {
	size := 0
	for _, r := range rows {
		size += r.size()
	}
	p.buffer = make([]byte, 0, 20+size)
	p.array(len(rows), changeType)
	for _, r := range rows {
		r.element(&p)
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
			SELECT c.*, i.sequence AS last, COALESCE(` + fitting + `, FALSE) AND i.id IS NOT NULL AS fits
			FROM unnest($1::provider_change[]) WITH ORDINALITY AS c (` + strings.Join(columns, ", ") + `, n)
			LEFT JOIN instances AS i ON i.id = c.instance LEFT JOIN providers AS p ON p.instance = c.instance AND p.id = c.id
		), ok AS MATERIALIZED (
			SELECT *, last + count(*) FILTER (WHERE fits) OVER (PARTITION BY instance ORDER BY n) AS seq FROM c
		), recorded AS (
			INSERT INTO events (instance, sequence, type, provider_id, at, token_id, name, protocol, procedure, user_agent, request_id, details)
			SELECT instance, seq, e_type, id, e_at, e_token_id, e_name, e_protocol, e_procedure, e_user_agent, e_request_id, e_details FROM ok WHERE fits
		), counted AS (
			UPDATE instances AS i SET sequence = made.seq
			FROM (SELECT instance, max(seq) AS seq FROM ok WHERE fits GROUP BY instance) AS made WHERE i.id = made.instance
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
