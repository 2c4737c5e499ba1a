package sqlstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// A look at what has changed reads everything as of one moment, at which some transactions were over and
// others were not. What the look before did not see is what those have changed that were not over then,
// whatever the order in which they began or came to their ends.
const (
	beginLook = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`

	// selectMoment are the transactions that are not over, as text: the first of them, the first that has not
	// begun, and those between. It comes with the server's start: a crash may have numbers used again.
	selectMoment = `SELECT txid_current_snapshot()::text, pg_postmaster_start_time()::text`

	// Only leases are written without naming the transaction: any other row that names another than has
	// written it is a copy from another cluster, of whose transactions nothing is known.
	changedRows = `SELECT` + messageColumns + `, m.instance AS q FROM messages AS m
		WHERE m.changed_in > 0 AND m.instance || '' = ANY($3)
			AND (m.state = 'sending' OR m.xmin::text::bigint = m.changed_in % 4294967296) AND m.changed_in `
	selectChanged = `(` + changedRows + ` >= $1) UNION ALL (` + changedRows + ` = ANY($2)) LIMIT $4`
)

// Others returns what tells of what other processes do, or nil if there can't be any.
func (db *DB) Others() outbox.Others {
	if p, ok := db.engine.(*postgresEngine); ok {
		return p
	}
	return nil
}

// moment is when a look was: a mark.
type moment struct {
	server   string // which, in which life
	next     uint64 // transaction
	underWay []uint64
}

// parseMoment reads a mark: the server and its snapshot.
func parseMoment(text string) (m moment, err error) {
	server, snapshot, _ := strings.Cut(text, "|")
	m.server = server
	parts := strings.Split(snapshot, ":")
	if len(parts) != 3 {
		return m, fmt.Errorf("sqlstore: %q is no mark", text)
	}
	if m.next, err = strconv.ParseUint(parts[1], 10, 64); err != nil || parts[2] == "" {
		return m, err
	}
	for _, number := range strings.Split(parts[2], ",") {
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return m, err
		}
		m.underWay = append(m.underWay, n)
	}
	return m, nil
}

// Changes implements outbox.Others.
func (p *postgresEngine) Changes(ctx context.Context, instances []string, since outbox.Mark, limit int) (changed []outbox.Message, now outbox.Mark, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", fmt.Errorf("sqlstore: %w", err)
	}
	var before moment
	if since != "" {
		if before, err = parseMoment(string(since)); err != nil {
			return nil, "", err
		}
	}
	var server string
	err = p.look(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		server, now, changed, err = lookAround(ctx, conn, before, instances, limit)
		return err
	})
	switch {
	case err != nil:
		return nil, "", err
	case since == "":
		return nil, now, nil
	case server != before.server, len(changed) > limit:
		return nil, now, outbox.ErrMark
	}
	return changed, now, nil
}

// lookAround takes one round trip.
func lookAround(ctx context.Context, conn *pgx.Conn, before moment, instances []string, limit int) (
	server string, now outbox.Mark, changed []outbox.Message, err error,
) {
	var batch pgx.Batch
	batch.Queue(beginLook)
	batch.Queue(selectMoment).QueryRow(func(row pgx.Row) error {
		var snapshot string
		if err := row.Scan(&snapshot, &server); err != nil {
			return err
		}
		server = fmt.Sprint(server, " ", conn.PgConn().CustomData()[timelineOf])
		now = outbox.Mark(server + "|" + snapshot)
		return nil
	})
	if before.server != "" {
		batch.Queue(selectChanged, before.next, before.underWay, instances, limit+1).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var instance string
				m, err := scanMessage(rows, "", &instance)
				if err != nil {
					return err
				}
				m.Instance = instance
				changed = append(changed, m)
			}
			return rows.Err()
		})
	}
	batch.Queue(`COMMIT`)
	err = conn.SendBatch(ctx, &batch).Close()
	return server, now, changed, err
}
