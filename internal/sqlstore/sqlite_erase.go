package sqlstore

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// eraseWait is how long emptying the log waits for readers, and all writes with it. The readers of
	// this process are over sooner; a backup is not.
	eraseWait = 25 * time.Millisecond
	// eraseAgain is when it is tried again after that.
	eraseAgain = time.Second
)

// errLogInUse: somebody reads an older state of the database, for which the log is needed.
var errLogInUse = errors.New("sqlstore: the write-ahead log is in use by a reader")

// eraser remembers that the log has still to be emptied.
type eraser struct {
	owes  atomic.Bool
	again time.Duration
}

// erase moves the write-ahead log into the database, where secure_delete has overwritten what was
// deleted, and empties it. While another process reads, as `mailkeep backup` does, the log can't be
// emptied: that is then done when the reader is gone.
func (s *sqliteEngine) erase(ctx context.Context) error {
	err := s.emptyLog(ctx)
	if errors.Is(err, errLogInUse) && s.eraser.owes.CompareAndSwap(false, true) {
		time.AfterFunc(s.eraser.again, func() {
			s.eraser.owes.Store(false)
			_ = s.erase(context.Background()) // fails for good only when the store is closed
		})
	}
	return err
}

func (s *sqliteEngine) emptyLog(ctx context.Context) (err error) {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx = context.WithoutCancel(ctx)
	setWait := func(milliseconds string) error {
		_, err := conn.ExecContext(ctx, `PRAGMA busy_timeout = `+milliseconds)
		return err
	}
	if err := setWait(strconv.FormatInt(eraseWait.Milliseconds(), 10)); err != nil {
		return err
	}
	var busy bool
	var frames, moved int
	err = conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
	if err == nil && busy {
		err = errLogInUse
	}
	return errors.Join(err, setWait(busyTimeout))
}
