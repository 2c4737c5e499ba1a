package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// change is a decided change with what is stored of its event.
type change struct {
	emailprovider.Change
	row      providerRow // of Put
	alike    bool        // its settings are those that were last seen here, which it was decided on
	replaces bool        // its previous credential is the present one that was last seen so
	details  string
	tag      []byte // of the event; empty if it is not chained
}

// decided prepares a change.
func (db *DB) decided(c emailprovider.Change) (change, error) {
	made := change{Change: c}
	var err error
	if c.Put != nil {
		if made.row, err = newProviderRow(c.Put); err != nil {
			return change{}, err
		}
	}
	if made.details, err = formatDetails(c.Event); err != nil || db.chain == nil {
		return made, err
	}
	e := &c.Event
	tag, err := db.chain.Tag(&audit.Row{
		Instance: e.Instance, Type: string(e.Type), ProviderID: e.ProviderID, At: micros(e.At), TokenID: e.By.TokenID, Name: e.By.Name,
		Protocol: e.By.Protocol, Procedure: e.By.Procedure, UserAgent: e.By.UserAgent, RequestID: e.By.RequestID, Details: made.details,
	})
	if err != nil {
		return change{}, fmt.Errorf("sqlstore: %w", err)
	}
	made.tag = tag[:]
	return made, nil
}

// add returns what is stored of the chain with the event, and its new head.
func (c *change) add(sequence uint64, head []byte) (chain, next []byte) {
	if len(c.tag) == 0 {
		return nil, nil
	}
	if len(head) == 0 {
		head = make([]byte, len(audit.Mac{}))
	}
	chain, mac := audit.Tag(c.tag).Add(sequence, head)
	return chain, mac[:]
}

// chainChanges is add for applyChanges: of the changes that fit, what the chain's parts are made of. The head
// before a change is made from the tag before it once more: that costs less than to pass it on.
var chainChanges = `, chained AS MATERIALIZED (
			SELECT c.n, c.place, c.instance_place, c.seq, c.latest, sha512(c.tag || int8send(c.seq)) AS said,
				COALESCE(substr(sha512(c.tag_before || int8send(c.seq - 1)), 33), c.head, '` + noHead + `') AS mac_before
			FROM fit AS c
		)`

// What is stored of the chain with a change, and the head after it.
const (
	chainOfChange = `substr(c.tag, 1, 4) || substr(c.said, 1, 32) || sha256(` + macOfChange + ` || c.mac_before)`
	macOfChange   = `substr(c.said, 33)`
)

// noHead is the head before the first event, as PostgreSQL writes it.
var noHead = `\x` + hex.EncodeToString(make([]byte, len(audit.Mac{})))

const (
	selectUnchained = `SELECT id, sequence FROM instances WHERE sequence > 0 AND chain_head IS NULL`
	beginChain      = `UPDATE instances SET chain_head = $3 WHERE id = $1 AND sequence = $2 AND chain_head IS NULL`

	selectEnd      = `SELECT sequence + 0 AS a, COALESCE(chain_head, '') AS b FROM instances WHERE id = $1`
	selectYoungest = `SELECT COALESCE(max(sequence), 0) FROM providers WHERE instance = $1`
	selectChained  = `SELECT sequence, type, provider_id, at, token_id, name, protocol, procedure, user_agent, request_id, details, chain
		FROM events WHERE instance = $1 AND sequence >= $2 ORDER BY sequence LIMIT $3`
)

// BeginChain has every event from now on chained. Events that are in no chain stay so; what comes after
// them is chained to how many they are.
func (db *DB) BeginChain(ctx context.Context, chain *audit.Chain) error {
	db.chain = chain
	type instance struct {
		id       string
		sequence uint64
	}
	found, err := all(ctx, db, func(row scanner) (i instance, err error) { return i, row.Scan(&i.id, &i.sequence) }, selectUnchained)
	if err != nil {
		return err
	}
	for _, i := range found {
		base, err := chain.Base(i.id, i.sequence)
		if err != nil {
			return err
		}
		err = db.engine.write(ctx, write{of: cachedAll, do: func(l *line) error {
			_, err := l.exec(beginChain, i.id, i.sequence, base[:])
			return err
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// AuditPage implements audit.Store.
func (db *DB) AuditPage(ctx context.Context, instance string, from uint64, limit int) (page audit.Page, err error) {
	err = db.snapshot(ctx, func(ctx context.Context, tx *sql.Tx) error {
		page = audit.Page{}
		err := tx.QueryRowContext(ctx, selectEnd, instance).Scan(&page.Sequence, &page.Head)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // An instance that does not exist has no events.
		}
		if err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, selectYoungest, instance).Scan(&page.Youngest); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, selectChained, instance, signed(from), limit+1)
		page.Rows, err = collect(rows, err, func() (r audit.Row, err error) {
			r.Instance = instance
			return r, rows.Scan(&r.Sequence, &r.Type, &r.ProviderID, &r.At, &r.TokenID, &r.Name, &r.Protocol, &r.Procedure,
				&r.UserAgent, &r.RequestID, &r.Details, &r.Chain)
		})
		if len(page.Rows) > limit {
			page.Rows, page.More = page.Rows[:limit], true
		}
		return err
	})
	return page, err
}
