package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	insertEvent = `INSERT INTO events (instance, sequence, type, provider_id, at, token_id, name, protocol,
			procedure, user_agent, request_id, details, chain)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (provider_id) WHERE type = 'provider.added' DO NOTHING`

	selectEvents = `SELECT sequence, type, provider_id, at, token_id, name, protocol, procedure,
			user_agent, request_id, details
		FROM events WHERE instance = $1 AND sequence > $2`
	eventsOfAll = selectEvents + ` ORDER BY sequence LIMIT $3`
)

// details is the part of an event that nobody searches for.
type details struct {
	Fields            []string `json:"fields,omitempty"`
	CredentialVersion uint64   `json:"credentialVersion,omitempty"`
	KeptCredential    bool     `json:"keptCredential,omitempty"`
}

func formatDetails(e emailprovider.Event) (string, error) {
	text, err := json.Marshal(details{e.Fields, e.CredentialVersion, e.KeptCredential})
	return string(text), err
}

// appendEvent appends the arguments of insertEvent. The only conflict it can meet is a second first event of an id.
// Its sequence and its chain are given in the transaction.
func appendEvent(args []any, c *change, again common) []any {
	e := &c.Event
	return append(args,
		again.instance, nil, string(e.Type), again.id, again.at, e.By.TokenID, again.name,
		e.By.Protocol, e.By.Procedure, e.By.UserAgent, e.By.RequestID, c.details, nil)
}

// Events implements emailprovider.Store.
func (db *DB) Events(ctx context.Context, instance, providerID string, after uint64, limit int) (found []emailprovider.Event, err error) {
	if providerID == "" {
		return all(ctx, db, eventOf(instance), eventsOfAll, instance, signed(after), limit)
	}
	err = db.read(ctx, func(ctx context.Context, from reader) (err error) {
		found, err = db.engine.eventsOf(ctx, from, instance, providerID, after, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// eventsIn reads the events of an instance that a query answers, whose error it takes too.
func eventsIn(rows *sql.Rows, err error, instance string) ([]emailprovider.Event, error) {
	return collect(rows, err, func() (emailprovider.Event, error) { return eventOf(instance)(rows) })
}

// eventOf reads an event of an instance.
func eventOf(instance string) func(scanner) (emailprovider.Event, error) {
	return func(row scanner) (emailprovider.Event, error) {
		e := emailprovider.Event{Instance: instance}
		return e, scanEvent(row, &e)
	}
}

func scanEvent(from scanner, e *emailprovider.Event) error {
	var (
		at  int64
		raw []byte
		d   details
	)
	err := from.Scan(&e.Sequence, &e.Type, &e.ProviderID, &at, &e.By.TokenID, &e.By.Name,
		&e.By.Protocol, &e.By.Procedure, &e.By.UserAgent, &e.By.RequestID, &raw)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("sqlstore: details of event %d of instance %s: %w", e.Sequence, e.Instance, err)
	}
	e.At = fromMicros(at)
	e.Fields, e.CredentialVersion, e.KeptCredential = d.Fields, d.CredentialVersion, d.KeptCredential
	return nil
}
