package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// maxBatch is how many writes share a transaction, so that the first does not wait for ever.
const maxBatch = 256

// group is the queue of writes. What has queued up while one transaction was committed shares the
// next: the disk is asked once for all of them.
type group struct {
	mu      sync.Mutex
	queue   []*job
	running bool // somebody empties the queue
}

// job is a write of one caller.
type job struct {
	do    func(*line) error
	clean bool      // do seldom fails after it has changed something
	cache droppable // of what do changes; nil for none

	begun, withdrawn bool // of which at most one becomes true; under group.mu

	err      error // set before done is closed
	panicked error
	done     chan struct{}
}

// droppable is a cache that is told when a write begins (1) and ends (-1).
type droppable interface{ drop(writes int) }

// write runs f in a transaction, which it may share with others, and makes it durable. When it
// returns an error nothing has changed, except for errOutcomeUnknown.
//
// f may run after write has returned errOutcomeUnknown, and more than once, so what it sets is to be
// read only when write returned nil.
//
// ctx and the store's patience bound the wait for f to begin, the patience alone bounds it from
// then on. Inside, f uses the context it is given.
func (db *DB) write(ctx context.Context, f func(context.Context, *sql.Tx) error) error {
	return db.await(ctx, &job{do: inTx(f)})
}

// writeClean is write for an f that seldom fails after it has changed something. It is spared a
// savepoint; when it does fail so, everything it shares the transaction with is done again.
func (db *DB) writeClean(ctx context.Context, f func(*line) error) error {
	return db.await(ctx, &job{do: f, clean: true})
}

// inTx is f as a job does it.
func inTx(f func(context.Context, *sql.Tx) error) func(*line) error {
	return func(l *line) error { return f(context.Background(), l.tx) }
}

// await queues a job and waits for its outcome.
func (db *DB) await(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	j.done = make(chan struct{})
	if j.cache != nil {
		j.cache.drop(1)
	}
	patience := time.NewTimer(db.patience)
	defer patience.Stop()
	if db.group.add(j) {
		go db.commitQueue()
	}
	select {
	case <-j.done:
		return j.outcome()
	case <-ctx.Done():
		if db.group.withdraw(j) {
			return fmt.Errorf("sqlstore: %w", ctx.Err())
		}
	case <-patience.C:
		if db.group.withdraw(j) {
			return errBusy
		}
		return errOutcomeUnknown
	}
	select {
	case <-j.done:
		return j.outcome()
	case <-patience.C:
		return errOutcomeUnknown
	}
}

// add queues a job and reports whether the caller has to see to the queue.
func (g *group) add(j *job) (first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, j)
	first, g.running = !g.running, true
	return first
}

// withdraw reports whether the job will never begin.
func (g *group) withdraw(j *job) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if j.begun {
		return false
	}
	j.withdrawn = true
	if i := slices.Index(g.queue, j); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
	}
	if j.cache != nil {
		j.cache.drop(-1)
	}
	return true
}

// begin reports whether the job is to begin.
func (g *group) begin(j *job) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	j.begun = !j.withdrawn
	return j.begun
}

// take returns the next jobs.
func (g *group) take() []*job {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.queue), maxBatch)
	jobs := slices.Clone(g.queue[:n])
	g.queue = slices.Delete(g.queue, 0, n)
	return jobs
}

// more reports whether jobs wait; if not, the next that is added sees to the queue.
func (g *group) more() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = len(g.queue) > 0
	return g.running
}

// commitQueue works until the queue is empty.
func (db *DB) commitQueue() {
	for db.group.more() {
		db.commitBatch()
	}
}

// commitBatch takes what waits into one transaction. Everybody is answered after its end, those
// whose job failed too: it may have failed because of another one.
func (db *DB) commitBatch() {
	l, err := db.begin()
	jobs := db.group.take() // Only now: others have come while the transaction was waited for.
	if err == nil {
		err = db.runBatch(l, jobs, false)
	}
	if errors.Is(err, errUnclean) {
		if l, err = db.begin(); err == nil {
			err = db.runBatch(l, jobs, true)
		}
	}
	if err != nil {
		err = db.failedWrite(err)
	}
	for _, j := range jobs {
		if db.group.begin(j) {
			j.finish(err)
		}
	}
}

// begin begins a transaction.
func (db *DB) begin() (*line, error) {
	ctx := context.Background()
	conn, err := db.writer.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &line{tx: tx, conn: conn}, nil
}

// errUnclean: a job that shared the transaction without a savepoint has failed and left something.
var errUnclean = errors.New("sqlstore: a failed write left something behind")

// runBatch returns an error if it is the outcome of all jobs. If careful, clean ones have savepoints too.
func (db *DB) runBatch(l *line, jobs []*job, careful bool) error {
	defer func() { _ = l.conn.Close() }() // Back to the pool, whatever became of it.
	runaway := time.AfterFunc(db.patience, l.end)
	defer runaway.Stop()
	succeeded := false
	for _, j := range jobs {
		if !db.group.begin(j) {
			continue
		}
		savepoint := len(jobs) > 1 && (careful || !j.clean)
		l.changed = false
		err := db.runJob(l, j, savepoint)
		if err == nil && j.err != nil && l.changed && !savepoint && len(jobs) > 1 {
			err = errUnclean
		}
		if err != nil {
			l.end()
			return err
		}
		succeeded = succeeded || j.err == nil
	}
	if !succeeded {
		l.end()
		return nil
	}
	runaway.Stop() // A commit can't be ended.
	err := l.tx.Commit()
	if err != nil && db.dialect.class(err) == brokenIO {
		return errOutcomeUnknown.Because(err)
	}
	return err
}

// runJob runs one job and undoes it if it fails. It returns an error if the whole transaction has to
// be undone.
func (db *DB) runJob(l *line, j *job, savepoint bool) error {
	if savepoint {
		if _, err := l.exec(`SAVEPOINT job`); err != nil {
			return err
		}
	}
	j.run(l)
	if j.panicked != nil {
		return errBusy.Because(errors.New("a write that shared the transaction panicked"))
	}
	if j.err != nil && db.broken(j.err) {
		return j.err
	}
	if !savepoint {
		return nil
	}
	if j.err != nil {
		if _, err := l.exec(`ROLLBACK TO SAVEPOINT job`); err != nil {
			return err
		}
	}
	_, err := l.exec(`RELEASE SAVEPOINT job`)
	return err
}

func (j *job) run(l *line) {
	defer func() {
		if v := recover(); v != nil {
			j.panicked = fmt.Errorf("sqlstore: panic in a write: %v\n%s", v, debug.Stack())
		}
	}()
	j.err = j.do(l)
}

// finish answers the caller: with its own outcome, or that of the batch.
func (j *job) finish(batch error) {
	if batch != nil {
		j.err = batch
	}
	if j.cache != nil {
		j.cache.drop(-1)
	}
	close(j.done)
}

func (j *job) outcome() error {
	if j.panicked != nil {
		panic(j.panicked)
	}
	return j.err
}

// broken reports whether err leaves the whole transaction in doubt.
func (db *DB) broken(err error) bool {
	switch db.dialect.class(err) {
	case locked, readOnly, full, brokenIO:
		return true
	}
	return errors.Is(err, sql.ErrTxDone) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn)
}

// failedWrite is failed for what has no context: a transaction is over before its end only when it
// took too long.
func (db *DB) failedWrite(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return errBusy.Because(err)
	}
	ctx := context.Background()
	return db.failed(ctx, ctx, err)
}
