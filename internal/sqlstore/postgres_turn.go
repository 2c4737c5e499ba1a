package sqlstore

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// turn tells whether other processes change the same instances. Who waits for another's transaction with changes
// in hand makes those alone, and what came meanwhile has to wait for the next turn: the more processes there are,
// the smaller are their transactions, each of which costs the server as much as ten changes. So where there are
// others the wait comes first, and then the changes are taken. That is a round trip more, which pays where several
// changes share it.
type turn struct {
	ends   map[string]uint64 // the last sequence of each instance in the last transaction
	shared bool
}

// fewestSharing is how many changes have to share a round trip for it to pay.
const fewestSharing = 4

// made takes note of the changes of a transaction. If others have made some between it and the last one, the turn
// is shared.
func (t *turn) made(jobs []*job[*changing]) {
	first, last, n := map[string]uint64{}, map[string]uint64{}, 0
	for _, j := range jobs {
		of, sequence := j.ask.Event.Instance, j.ask.applied
		if sequence == 0 {
			continue
		}
		if n++; first[of] == 0 {
			first[of] = sequence
		}
		first[of], last[of] = min(first[of], sequence), max(last[of], sequence)
	}
	others := false
	for of, sequence := range first {
		others = others || t.ends[of] > 0 && sequence > t.ends[of]+1
	}
	t.ends, t.shared = last, others && n >= fewestSharing
}

// held are instances that a transaction holds.
type held struct {
	asked []string
	there []string // of these
}

const holdInstances = `SELECT id FROM instances WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE`

// hold has a pipeline hold instances, for which it waits for whoever else does.
func (h *held) hold(ctx context.Context, batch *pipeline, instances []string) error {
	h.asked = instances
	var p params
	p.texts(instances)
	return batch.add(ctx, holdInstances, p, eachRow(func(row binaryRow) error {
		h.there = append(h.there, string(row[0]))
		return nil
	}))
}

// fits reports whether a change can be made in the transaction; in one that has not begun, any can.
func (h *held) fits(c *changing) bool {
	return h == nil || slices.Contains(h.asked, c.Event.Instance)
}

// waitForTurn begins a transaction that holds the instances of the changes that wait, if the turn is shared.
// Otherwise, and if that fails, it returns nil: what the matter is shows again when the changes are made.
func (p *postgresEngine) waitForTurn(ctx context.Context, conn *pgx.Conn) *held {
	if !p.turn.shared {
		return nil
	}
	jobs := p.changes.next(mostChanges)
	if len(jobs) == 0 {
		return nil
	}
	h, err := beginHolding(ctx, conn, instancesOf(jobs))
	if err != nil {
		leave(ctx, conn)
		return nil
	}
	return h
}

// beginHolding begins a transaction that holds instances.
func beginHolding(ctx context.Context, conn *pgx.Conn, instances []string) (*held, error) {
	h, batch := &held{}, pipeline{conn: conn}
	if err := batch.add(ctx, `BEGIN`, params{}, nil); err != nil {
		return nil, err
	}
	if err := h.hold(ctx, &batch, instances); err != nil {
		return nil, err
	}
	return h, batch.run(ctx)
}

// wasCommitted returns an error if a COMMIT has undone the transaction.
func wasCommitted(results *pgconn.ResultReader) error {
	tag, err := results.Close()
	if err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	return err
}

// instancesOf returns the instances of changes, sorted.
func instancesOf(jobs []*job[*changing]) (instances []string) {
	for _, j := range jobs {
		instances = append(instances, j.ask.Event.Instance)
	}
	slices.Sort(instances)
	return slices.Compact(instances)
}
