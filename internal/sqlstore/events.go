package sqlstore

import (
	"context"
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
	eventsOfOne = selectEvents + ` AND provider_id = $4 ORDER BY sequence LIMIT $3`
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

// eventColumns are the arguments of insertEvent. The only conflict it can meet is a second first event of an id.
// Its sequence and its chain are given in the transaction.
func eventColumns(c *change) []any {
	e := &c.Event
	return []any{
		e.Instance, nil, string(e.Type), e.ProviderID, micros(e.At), e.By.TokenID, e.By.Name,
		e.By.Protocol, e.By.Procedure, e.By.UserAgent, e.By.RequestID, c.details, nil,
	}
}

// Events implements emailprovider.Store.
func (db *DB) Events(ctx context.Context, instance, providerID string, after uint64, limit int) ([]emailprovider.Event, error) {
	query, args := eventsOfAll, []any{instance, signed(after), limit}
	if providerID != "" {
		query, args = eventsOfOne, append(args, providerID)
	}
	return all(ctx, db, func(row scanner) (emailprovider.Event, error) {
		e := emailprovider.Event{Instance: instance}
		return e, scanEvent(row, &e)
	}, query, args...)
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
