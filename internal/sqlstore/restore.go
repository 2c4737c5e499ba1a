package sqlstore

import (
	"context"
	"time"
)

const (
	firstOpen = ` (SELECT instance, id FROM messages WHERE open ORDER BY instance, id LIMIT $1)`

	eraseFirstOpen  = `DELETE FROM message_contents WHERE (instance, id) IN` + firstOpen
	cancelFirstOpen = `UPDATE messages SET state = 'cancelled', open = FALSE, due = 0, changed = $2, reason = $3
		WHERE (instance, id) IN` + firstOpen
)

// cancelBatch is how many mails one write cancels: fewer than would take its patience.
const cancelBatch = 1000

// CancelOpen cancels every mail that waits or was being sent, and erases what they say. It is for a
// database that is not in use. After an error it may have cancelled some.
func (db *DB) CancelOpen(ctx context.Context, at time.Time, reason string) (cancelled int64, err error) {
	for {
		var n int64
		err := db.write(ctx, func(l *line) (err error) {
			if _, err = l.exec(eraseFirstOpen, cancelBatch); err == nil {
				n, err = l.exec(cancelFirstOpen, cancelBatch, micros(at), reason)
			}
			return err
		})
		if err != nil || n == 0 {
			return cancelled, err
		}
		cancelled += n
	}
}
