package sqlstore

import (
	"errors"
	"maps"
)

const (
	selectWholeEnd = `SELECT i.sequence + 0 AS a, COALESCE(i.chain_head, '') AS b, COALESCE(s.sequence, 0) AS c
		FROM instances AS i LEFT JOIN sorted_until AS s ON s.instance = i.id WHERE i.id = $1`
	updateEnd = `UPDATE instances SET sequence = $2, chain_head = $3 WHERE id = $1 AND sequence = $4`
)

// mostEnds is how many ends are remembered; the next one replaces them all.
const mostEnds = 4096

// end is how far an instance has come: its last change, the head of the chain after it, and up to which change
// its events are sorted.
type end struct {
	sequence int64
	head     []byte
	sorted   int64
}

// ends are those of the instances that change. What shares a transaction writes each once, and the next one
// knows it: nobody else writes to the file, and who does all the same is noticed.
type ends struct {
	committed map[string]end
	written   map[string]end // in the transaction
	pending   map[string]end // to be written in it
}

func newEnds() *ends {
	return &ends{committed: map[string]end{}, written: map[string]end{}, pending: map[string]end{}}
}

// errStaleEnd: the database is not as the last transaction has left it.
var errStaleEnd = errors.New("sqlstore: the sequence of an instance was changed from outside")

// get returns the end of an instance, or sql.ErrNoRows if there is none.
func (e *ends) get(l *line, instance string) (last end, err error) {
	for _, known := range []map[string]end{e.pending, e.written, e.committed} {
		if last, ok := known[instance]; ok {
			return last, nil
		}
	}
	err = l.one(selectWholeEnd, []any{instance}, func(row scanner) error {
		return row.Scan(&last.sequence, &last.head, &last.sorted)
	})
	if err == nil {
		e.written[instance] = last
	}
	return last, err
}

// begin is for a transaction that begins.
func (e *ends) begin() {
	clear(e.written)
	clear(e.pending)
}

// write writes the ends that were set.
func (e *ends) write(l *line) error {
	for instance, next := range e.pending {
		was, ok := e.written[instance]
		if !ok {
			was = e.committed[instance]
		}
		if err := sortEvents(l, instance, &next); err != nil {
			return err
		}
		if err := l.execOne(errStaleEnd, updateEnd, instance, next.sequence, blob(next.head), was.sequence); err != nil {
			return err
		}
		e.written[instance] = next
	}
	clear(e.pending)
	return nil
}

// blob is bytes as a column has them: NULL for none.
func blob(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// commit is for a transaction that was committed.
func (e *ends) commit() {
	if len(e.committed)+len(e.written) > mostEnds {
		clear(e.committed)
	}
	maps.Copy(e.committed, e.written)
}

// forget is for what changes instances in another way, in a transaction that has no ends to be written.
func (e *ends) forget() {
	clear(e.committed)
	clear(e.written)
}
