package sqlstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// TestTurn: whose turn it is, by what transactions have found.
func TestTurn(t *testing.T) {
	made := func(instance string, sequences ...uint64) (jobs []*job[*changing]) {
		for _, n := range sequences {
			c := changing{change: change{Change: emailprovider.Change{Event: emailprovider.Event{Instance: instance}}}, applied: n}
			jobs = append(jobs, &job[*changing]{ask: &c})
		}
		return jobs
	}
	var turn turn
	for i, c := range []struct {
		jobs []*job[*changing]
		want bool
	}{
		{made("a", 11, 12, 13, 14), false}, // the first
		{made("a", 15, 16, 17, 18), false},
		{made("a", 21, 20, 23, 22), true},
		{made("a", 25, 26, 0, 27, 0, 28), true},
		{made("a", 29, 30, 31, 32), false},
		{made("a", 34, 35, 0, 36), false}, // too few
		{made("a", 39), false},
		{slices.Concat(made("a", 40, 41), made("b", 2, 3)), false},
		{slices.Concat(made("a", 42, 43), made("b", 5, 6)), true},
		{made("a", 0, 0, 0, 0), false},
		{made("b", 9, 10, 11, 12), false}, // the last had none
	} {
		if turn.made(c.jobs); turn.shared != c.want {
			t.Errorf("after transaction %d it is shared: %t, want %t", i, turn.shared, c.want)
		}
	}
}

// queueOf is a store on PostgreSQL whose transactions are counted, with an instance that somebody holds.
type queueOf struct {
	t         *testing.T
	db        *DB
	providers []emailprovider.Provider
	release   func()
	outcomes  chan error

	mu    sync.Mutex
	sizes []int // of transactions
}

// openHeld opens a store and holds the instance until release.
func openHeld(t *testing.T, shared bool) *queueOf {
	t.Helper()
	q := &queueOf{t: t, outcomes: make(chan error, 64)}
	q.db = openURL(t, pgtest.Database(t), Options{Committed: func(n int) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.sizes = append(q.sizes, n)
	}}, "other")
	for n := range 10 {
		p := provider(n)
		if n > 7 {
			p.Instance = "other"
		}
		changeProvider(t, q.db, &p, added(p))
		q.providers = append(q.providers, p)
	}
	q.sizes = nil
	p := sharedEngine(q.db)
	p.turn.shared = shared
	somebody, err := p.pool.Begin(t.Context())
	must(t, err)
	q.release = func() { _ = somebody.Rollback(context.Background()) }
	t.Cleanup(q.release)
	_, err = somebody.Exec(t.Context(), holdInstances, []string{"default"})
	must(t, err)
	return q
}

// ask asks for a change of a provider's password, and waits until so many are in the queue.
func (q *queueOf) ask(ctx context.Context, provider, queued int) {
	q.t.Helper()
	q.askFor(ctx, rotated(q.providers[provider]), queued)
}

func (q *queueOf) askFor(ctx context.Context, c emailprovider.Change, queued int) {
	q.t.Helper()
	go func() {
		_, err := q.db.Apply(ctx, c)
		q.outcomes <- err
	}()
	changes := &sharedEngine(q.db).changes
	for deadline := time.Now().Add(4 * time.Second); len(changes.next(mostChanges)) != queued; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			q.t.Fatalf("%d changes wait, want %d", len(changes.next(mostChanges)), queued)
		}
	}
}

// want takes outcomes.
func (q *queueOf) want(n int, want error) {
	q.t.Helper()
	for range n {
		if err := <-q.outcomes; !errors.Is(err, want) || want == nil && err != nil {
			q.t.Errorf("%v, want %v", err, want)
		}
	}
}

// committed compares how many changes were in each transaction. No session has one that is not over.
func (q *queueOf) committed(want ...int) {
	q.t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Equal(q.sizes, want) {
		q.t.Errorf("transactions of %v changes, want %v", q.sizes, want)
	}
	if n := sessions(q.t, q.db, `state LIKE 'idle in transaction%'`); n > 0 {
		q.t.Errorf("%d transactions are not over", n)
	}
}

// TestWaitForTurn: where others change the instance too, what comes while they do is made in one transaction.
func TestWaitForTurn(t *testing.T) {
	for shared, want := range map[bool][]int{true: {8, 2}, false: {1, 9}} {
		q := openHeld(t, shared)
		inHand := 1 // while it waits
		if shared {
			inHand = 0
		}
		q.ask(t.Context(), 0, 1-inHand)
		waitForLock(t, q.db)
		for n := 1; n < 10; n++ {
			q.ask(t.Context(), n, n+1-inHand)
		}
		q.release()
		q.want(10, nil)
		q.committed(want...)
	}
}

// TestTurnIsGivenUp: whoever goes while his change waits for its turn has not made it, and nothing is left behind.
func TestTurnIsGivenUp(t *testing.T) {
	q := openHeld(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	q.ask(ctx, 0, 1)
	waitForLock(t, q.db)
	q.ask(ctx, 1, 2)
	cancel()
	q.want(2, context.Canceled)
	q.release()
	q.ask(t.Context(), 0, 0)
	q.want(1, nil)
	q.committed(1)
	conns := sharedEngine(q.db).pool.Stat()
	for ; conns.AcquiredConns() > 0; conns = sharedEngine(q.db).pool.Stat() {
		time.Sleep(time.Millisecond)
	}
	if int64(conns.TotalConns()) != conns.NewConnsCount() {
		t.Errorf("%d of %d connections are left", conns.TotalConns(), conns.NewConnsCount())
	}
}

// TestTurnDoesNotCome: a turn that does not come in time is an error that says so, and nothing was changed.
func TestTurnDoesNotCome(t *testing.T) {
	q := openHeld(t, true)
	sharedEngine(q.db).patience = 300 * time.Millisecond
	q.ask(t.Context(), 0, 1)
	q.want(1, errBusy)
	q.release()
	q.ask(t.Context(), 0, 0)
	q.want(1, nil)
	q.committed(1)
}

// TestTurnFails: when the database refuses one of the changes that have waited, the others are made.
func TestTurnFails(t *testing.T) {
	q := openHeld(t, true)
	poison := rotated(q.providers[0])
	poison.Event.By.Name = "a NUL \x00"
	q.askFor(t.Context(), poison, 1)
	waitForLock(t, q.db)
	for n := 1; n < 5; n++ {
		q.ask(t.Context(), n, n+1)
	}
	q.release()
	failures := 0
	for range 5 {
		if err := <-q.outcomes; err != nil {
			failures++
		}
	}
	if failures != 1 {
		t.Errorf("%d failed, want 1", failures)
	}
	q.committed(1, 1, 1, 1)
}
