package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// maxBatch is how many writes share a transaction, so that the first does not wait for ever.
const maxBatch = 256

// write makes a change in a transaction that it may share with others.
func (s *sqliteEngine) write(ctx context.Context, w write) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	j := &job[write]{ask: w}
	if c := s.cacheOf(w.of); c != nil {
		c.drop(1)
		j.ended = func() { c.drop(-1) }
	}
	return s.queue.await(ctx, s.patience, j)
}

// commitBatch takes what waits into one transaction. Everybody is answered after its end, those
// whose job failed too: it may have failed because of another one.
func (s *sqliteEngine) commitBatch() {
	l, err := s.begin()
	jobs := s.queue.take(maxBatch) // Only now: others have come while the transaction was waited for.
	if err == nil {
		err = s.runBatch(l, jobs, false)
	}
	if errors.Is(err, errUnclean) || errors.Is(err, errStaleEnd) {
		s.ends.forget()
		if l, err = s.begin(); err == nil {
			err = s.runBatch(l, jobs, true)
		}
	}
	if err != nil {
		s.ends.forget()
		err = s.failedWrite(err)
	}
	for _, j := range jobs {
		if s.queue.begin(j) {
			j.finish(err)
		}
	}
}

// begin begins a transaction.
func (s *sqliteEngine) begin() (*sqliteLine, error) {
	conn, err := s.writer.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	l := newSQLiteLine(conn, time.Now().Add(s.patience))
	if err := l.begin(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.line.Store(l)
	if s.runaway == nil {
		s.runaway = time.AfterFunc(s.patience, s.endRunaway)
	} else {
		s.runaway.Reset(s.patience)
	}
	return l, nil
}

// endRunaway ends the transaction whose time is up, if that is the one under way.
func (s *sqliteEngine) endRunaway() {
	if l := s.line.Load(); !time.Now().Before(l.until) {
		l.end()
	}
}

// errUnclean: a job that shared the transaction without a savepoint has failed and left something.
var errUnclean = errors.New("sqlstore: a failed write left something behind")

// runBatch returns an error if it is the outcome of all jobs. If careful, clean ones have savepoints too.
func (s *sqliteEngine) runBatch(own *sqliteLine, jobs []*job[write], careful bool) error {
	defer func() { _ = own.conn.Close() }() // Back to the pool, whatever became of it.
	defer s.runaway.Stop()
	s.ends.begin()
	l := &line{executor: own, ends: s.ends}
	succeeded, err := s.runJobs(l, jobs, careful)
	if err == nil && succeeded > 0 {
		err = s.ends.write(l)
	}
	if err != nil || succeeded == 0 {
		own.end()
		return err
	}
	s.runaway.Stop() // A commit can't be ended.
	if err := own.commit(); err != nil {
		own.end()
		if s.class(err) == brokenIO {
			return errOutcomeUnknown.Because(err)
		}
		return err
	}
	s.ends.commit()
	if s.told != nil {
		s.told(succeeded)
	}
	return nil
}

// runJobs runs jobs and returns how many have succeeded, or an error if it is the outcome of all.
func (s *sqliteEngine) runJobs(l *line, jobs []*job[write], careful bool) (succeeded int, err error) {
	for _, j := range jobs {
		if !s.queue.begin(j) {
			continue
		}
		savepoint := len(jobs) > 1 && (careful || !j.ask.clean)
		l.changed = false
		if err := s.runJob(l, j, savepoint); err != nil {
			return 0, err
		}
		if j.err == nil {
			succeeded++
		} else if l.changed && !savepoint && len(jobs) > 1 {
			return 0, errUnclean
		}
	}
	return succeeded, nil
}

// runJob runs one job and undoes it if it fails. It returns an error if the whole transaction has to
// be undone.
func (s *sqliteEngine) runJob(l *line, j *job[write], savepoint bool) error {
	if savepoint || j.ask.of == cachedAll {
		if err := l.ends.write(l); err != nil {
			return err
		}
	}
	if j.ask.of == cachedAll {
		l.ends.forget()
	}
	if savepoint {
		if _, err := l.exec(`SAVEPOINT job`); err != nil {
			return err
		}
	}
	do(l, j)
	if j.panicked != nil {
		return errBusy.Because(errors.New("a write that shared the transaction panicked"))
	}
	if j.err != nil && s.broken(j.err) {
		return j.err
	}
	if !savepoint {
		return nil
	}
	if j.err != nil {
		clear(l.ends.pending)
		if _, err := l.exec(`ROLLBACK TO SAVEPOINT job`); err != nil {
			return err
		}
	}
	_, err := l.exec(`RELEASE SAVEPOINT job`)
	return err
}

// do makes the change of one job.
func do(l *line, j *job[write]) {
	defer func() {
		if v := recover(); v != nil {
			j.panicked = fmt.Errorf("sqlstore: panic in a write: %v\n%s", v, debug.Stack())
		}
	}()
	j.err = j.ask.do(l)
}

// broken reports whether err leaves the whole transaction in doubt.
func (s *sqliteEngine) broken(err error) bool {
	switch s.class(err) {
	case locked, readOnly, full, brokenIO:
		return true
	}
	return errors.Is(err, sql.ErrTxDone) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn)
}

// failedWrite is failed for what has no context: a transaction is over before its end only when it
// took too long.
func (s *sqliteEngine) failedWrite(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return errBusy.Because(err)
	}
	ctx := context.Background()
	return failed(s.class, ctx, ctx, err)
}
