package sqlstore

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// messageColumns are what messageRow scans. For the casts see providerColumns.
const messageColumns = `
	CAST(m.id AS TEXT) AS a, CAST(m.state AS TEXT) AS b, CAST(m.due AS BIGINT) AS c,
	CAST(m.expires AS BIGINT) AS d, CAST(m.changed AS BIGINT) AS e, CAST(m.created AS BIGINT) AS f,
	CAST(m.attempts AS BIGINT) AS g, CAST(m.provider_id AS TEXT) AS h,
	CAST(m.credential_version AS BIGINT) AS i, CAST(m.tag AS TEXT) AS j,
	COALESCE(m.idempotency_key, '') AS k, m.fingerprint AS l, CAST(m.recipients AS TEXT) AS n,
	CAST(m.reason AS TEXT) AS o, CAST(m.fence AS BIGINT) AS p`

// scanMessage reads messageColumns, and after them what more is for.
func scanMessage(from scanner, instance string, more ...any) (outbox.Message, error) {
	m := outbox.Message{Instance: instance}
	var (
		recipients                     []byte
		due, expires, changed, created int64
	)
	err := from.Scan(append([]any{&m.ID, (*string)(&m.State), &due, &expires, &changed, &created, &m.Attempts, &m.ProviderID,
		&m.CredentialVersion, &m.Tag, &m.IdempotencyKey, &m.Fingerprint, &recipients, &m.Reason, &m.Version}, more...)...)
	if err != nil {
		return outbox.Message{}, err
	}
	m.Due, m.Expires, m.Changed, m.Created = fromMicros(due), fromMicros(expires), fromMicros(changed), fromMicros(created)
	if err := json.Unmarshal(recipients, &m.Recipients); err != nil {
		return outbox.Message{}, fmt.Errorf("sqlstore: recipients of mail %s: %w", m.ID, err)
	}
	return m, nil
}

func formatRecipients(all []outbox.Recipient) (string, error) {
	if len(all) == 0 {
		return "", fmt.Errorf("sqlstore: a mail without recipients")
	}
	text, err := json.Marshal(all)
	return string(text), err
}

// attemptRecord is an attempt as it is stored; its number is beside it. Times are microseconds.
type attemptRecord struct {
	ProviderID        string             `json:"p"`
	CredentialVersion uint64             `json:"v,omitempty"`
	Started           int64              `json:"b"`
	Ended             int64              `json:"e"`
	Accepted          bool               `json:"a,omitempty"`
	Step              emailprovider.Step `json:"s,omitempty"`
	Code              int                `json:"c,omitempty"`
	Text              string             `json:"t,omitempty"`
	Steps             string             `json:"d,omitempty"` // "from 1200 data 3400", in nanoseconds
}

func formatAttempt(a *outbox.Attempt) (string, error) {
	text, err := json.Marshal(attemptRecord{
		a.ProviderID, a.CredentialVersion, micros(a.Started), micros(a.Ended), a.Accepted, a.Step, a.Code, a.Text,
		formatSteps(a.Steps),
	})
	return string(text), err
}

func parseAttempt(number int, text []byte) (outbox.Attempt, error) {
	var r attemptRecord
	err := json.Unmarshal(text, &r)
	if err != nil {
		return outbox.Attempt{}, fmt.Errorf("sqlstore: attempt %d: %w", number, err)
	}
	a := outbox.Attempt{
		Number: number, ProviderID: r.ProviderID, CredentialVersion: r.CredentialVersion,
		Started: fromMicros(r.Started), Ended: fromMicros(r.Ended),
		Accepted: r.Accepted, Step: r.Step, Code: r.Code, Text: r.Text,
	}
	a.Steps, err = parseSteps(r.Steps)
	return a, err
}

func formatSteps(steps []emailprovider.StepTime) string {
	out := make([]byte, 0, 128)
	for i, s := range steps {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(append(out, s.Step...), ' ')
		out = strconv.AppendInt(out, int64(s.Took), 10)
	}
	return string(out)
}

func parseSteps(text string) (steps []emailprovider.StepTime, err error) {
	words := strings.Fields(text)
	for i := 0; i+1 < len(words); i += 2 {
		took, err := strconv.ParseInt(words[i+1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: steps of an attempt: %w", err)
		}
		steps = append(steps, emailprovider.StepTime{Step: emailprovider.Step(words[i]), Took: time.Duration(took)})
	}
	return steps, nil
}
