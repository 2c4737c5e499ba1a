package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// createSorted is migration 13, of SQLite only. An index of the events by provider costs each change a page of
// its own, since the events of providers that change in turn are far apart in it: with 64 providers that is half
// of all that a commit writes. So a table has what that index had, and events are put into it many at a time, in
// its order.
var createSorted = slices.Concat([]string{
	`CREATE TABLE sorted_events (
		instance    TEXT   NOT NULL,
		provider_id TEXT   NOT NULL,
		sequence    BIGINT NOT NULL,
		PRIMARY KEY (instance, provider_id, sequence)
	) WITHOUT ROWID`,
	`CREATE TABLE sorted_until (
		instance TEXT   NOT NULL PRIMARY KEY,
		sequence BIGINT NOT NULL
	) WITHOUT ROWID`,
	`DROP INDEX events_of_provider`,
}, sortAll)

// sortAll sorts all events of all instances.
var sortAll = []string{
	`INSERT INTO sorted_events SELECT instance, provider_id, sequence FROM events ORDER BY instance, provider_id, sequence`,
	`INSERT INTO sorted_until SELECT instance, max(sequence) FROM events GROUP BY instance`,
}

const (
	// sortAt is how many events of an instance are left unsorted: whoever looks for those of a provider goes through
	// them, which takes 1 ms.
	sortAt = 2048
	// sortMost bounds how many are sorted at a time, if for some reason there are more.
	sortMost = 16384
)

const (
	insertSorted = `INSERT OR IGNORE INTO sorted_events SELECT instance, provider_id, sequence FROM events
		WHERE instance = $1 AND sequence > $2 AND sequence <= $3 ORDER BY provider_id, sequence`
	upsertSorted = `INSERT INTO sorted_until (instance, sequence) VALUES ($1, $2)
		ON CONFLICT (instance) DO UPDATE SET sequence = excluded.sequence`

	selectSortedUntil = `SELECT sequence FROM sorted_until WHERE instance = $1`
	eventsSorted      = `SELECT e.sequence, e.type, e.provider_id, e.at, e.token_id, e.name, e.protocol, e.procedure,
			e.user_agent, e.request_id, e.details
		FROM sorted_events AS s CROSS JOIN events AS e ON e.instance = s.instance AND e.sequence = s.sequence
		WHERE s.instance = $1 AND s.sequence > $2 AND s.provider_id = $4 ORDER BY s.sequence LIMIT $3`
	// The expression keeps it from the index of first events, which would be all of them.
	eventsUnsorted = selectEvents + ` AND provider_id || '' = $4 ORDER BY sequence LIMIT $3`
)

// sortEvents sorts the events of an instance if it has enough of them. What is sorted already, whatever says
// otherwise, keeps nobody from changing something.
func sortEvents(l *line, instance string, e *end) error {
	if e.sequence-e.sorted < sortAt {
		return nil
	}
	until := min(e.sequence, e.sorted+sortMost)
	if _, err := l.exec(insertSorted, instance, e.sorted, until); err != nil {
		return err
	}
	e.sorted = until
	_, err := l.exec(upsertSorted, instance, until)
	return err
}

// eventsOf implements engine: those that are sorted, then the rest, as of one moment.
func (s *sqliteEngine) eventsOf(ctx context.Context, from reader, instance, provider string, after uint64, limit int) (found []emailprovider.Event, err error) {
	err = snapshotOf(ctx, from, func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, eventsSorted, instance, signed(after), limit, provider)
		if found, err = eventsIn(rows, err, instance); err != nil || len(found) == limit {
			return err
		}
		var until uint64
		err = tx.QueryRowContext(ctx, selectSortedUntil, instance).Scan(&until)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		rows, err = tx.QueryContext(ctx, eventsUnsorted, instance, signed(max(after, until)), limit-len(found), provider)
		rest, err := eventsIn(rows, err, instance)
		found = append(found, rest...)
		return err
	})
	return found, err
}
