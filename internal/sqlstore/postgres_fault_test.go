package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/faultproxy"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// slack is what a busy machine may add to a time.
const slack = 3 * time.Second

// throughProxy opens a database behind a proxy, with as many connections as there may be.
func throughProxy(t *testing.T) (*DB, *faultproxy.Proxy) {
	t.Helper()
	direct, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.Listen(direct.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	direct.Host = proxy.Address()
	db := openURL(t, direct.String(), Options{})
	fill(t, db)
	return db, proxy
}

// fill has the pool open all its connections.
func fill(t *testing.T, db *DB) {
	t.Helper()
	pool := sharedEngine(db).pool
	var all sync.WaitGroup
	gate := make(chan struct{})
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() { <-gate; conn.Release() })
	}
	close(gate)
	all.Wait()
}

// readings are one of each kind.
func readings(db *DB, p emailprovider.Provider) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"by key": func(ctx context.Context) error { _, err := db.Provider(ctx, p.Instance, p.ID); return err },
		"a row": func(ctx context.Context) error {
			_, err := db.Message(ctx, p.Instance, "none")
			if errors.Is(err, outbox.ErrNotFound) {
				err = nil
			}
			return err
		},
		"rows":        func(ctx context.Context) error { _, err := db.Waiting(ctx); return err },
		"one of many": func(ctx context.Context) error { _, err := db.HadTokens(ctx, p.Instance); return err },
		"a snapshot": func(ctx context.Context) error {
			_, err := db.List(ctx, p.Instance, emailprovider.Query{Limit: 1})
			return err
		},
	}
}

// TestReadsOverDeadConnections has all connections die without a sign: reads go on over new ones, at once or
// after the time that it takes to give one up, and need no deadline of their callers for it.
func TestReadsOverDeadConnections(t *testing.T) {
	t.Parallel()
	db, proxy := throughProxy(t)
	p := addProvider(t, db, 1)
	for _, idle := range []time.Duration{0, 1200 * time.Millisecond} { // later ones are tried before they are used
		fill(t, db)
		<-time.After(idle)
		proxy.SetExisting(faultproxy.Drop)
		var all sync.WaitGroup
		for name, read := range readings(db, p) {
			all.Go(func() {
				began := time.Now()
				err := read(context.Background())
				if took := time.Since(began); err != nil || took > postgresPatience {
					t.Errorf("%s, after %s: %v in %s", name, idle, err, took)
				}
			})
		}
		all.Wait()
	}
}

// TestReadsPassADeadConnection: who asks the same way as somebody whose connection is dead is not held up by
// him.
func TestReadsPassADeadConnection(t *testing.T) {
	t.Parallel()
	db, proxy := throughProxy(t)
	p := addProvider(t, db, 1)
	pool := sharedEngine(db).pool
	pool.Reset()
	only, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	proxy.SetExisting(faultproxy.Drop)
	only.Release()
	first := make(chan error, 1)
	go func() { _, err := db.Provider(context.Background(), p.Instance, p.ID); first <- err }()
	for pool.Stat().AcquiredConns() == 0 {
		select {
		case err := <-first:
			t.Fatalf("a read over a dead connection is over: %v", err)
		default:
		}
	}
	if _, err := db.Provider(context.Background(), p.Instance, p.ID); err != nil {
		t.Error(err)
	}
	select {
	case <-first:
		t.Error("the second read has waited for the first")
	default:
	}
	if err := <-first; err != nil {
		t.Errorf("the read over a dead connection: %v", err)
	}
}

// TestFrozenServer has the server hang: everything fails in time, and when it goes on so does the store. No
// slot of the pool is lost for longer.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	l := startLonely(t)
	p := addProvider(t, l.db, 1)
	engine := sharedEngine(l.db)
	engine.patience = time.Second
	fill(t, l.db)
	if err := l.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var all sync.WaitGroup
	for range 20 {
		for name, read := range readings(l.db, p) {
			all.Go(func() {
				if err := read(context.Background()); fault.KindOf(err) != fault.Unavailable {
					t.Errorf("%s: %v, want Unavailable", name, err)
				}
			})
		}
		all.Go(func() {
			_, err := l.db.Apply(context.Background(), updated(p))
			if fault.KindOf(err) != fault.Unavailable {
				t.Errorf("Apply: %v, want Unavailable", err)
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > engine.patience+slack {
		t.Errorf("answered after %s", took)
	}
	for deadline := time.Now().Add(slack); engine.pool.Stat().AcquiredConns() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are kept that nobody waits for", engine.pool.Stat().AcquiredConns())
		}
	}
	if err := l.Thaw(); err != nil {
		t.Fatal(err)
	}
	engine.patience = postgresPatience
	for name, read := range readings(l.db, p) {
		if err := read(t.Context()); err != nil {
			t.Errorf("%s when the server goes on: %v", name, err)
		}
	}
}

// TestGivenUpIsNotCancelled: a change that waits for its standby is not ended by who gives it up. Nobody sees
// it before the standby has it.
func TestGivenUpIsNotCancelled(t *testing.T) {
	t.Parallel()
	l := startLonely(t)
	l.await("nobody")
	sharedEngine(l.db).patience = 500 * time.Millisecond
	if _, err := l.db.Apply(t.Context(), added(provider(1))); !errors.Is(err, errOutcomeUnknown) {
		t.Errorf("Apply: %v, want an unknown outcome", err)
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if n := l.query("SELECT count(*) FROM events"); n != "0" {
			t.Fatalf("%s events are seen that no standby has", n)
		}
	}
	l.waiting(1)
	l.await("")
	l.waiting(0)
	sharedEngine(l.db).patience = postgresPatience
	wantEvents(t, l.db, 1)
	if strings.Contains(l.Log(), "canceling wait") {
		t.Error("the wait was cancelled")
	}
}

// TestResets has connections end at whatever moment: everything that fails says that the store can't be
// reached, or that it does not know.
func TestResets(t *testing.T) {
	t.Parallel()
	db, proxy := throughProxy(t)
	p := addProvider(t, db, 1)
	calls := readings(db, p)
	for name, change := range map[string]func(n int) error{
		"Apply": func(n int) error { return second(db.Apply(t.Context(), added(provider(n)))) },
		"Accept": func(n int) error {
			return second(db.Accept(t.Context(), mail(n), outbox.Sealed{KeyID: 1, Ciphertext: []byte("x")}))
		},
		"write": func(n int) error { return db.AddInstance(t.Context(), fmt.Sprint(n)) },
		"Claim": func(int) error {
			return second(db.Claim(t.Context(), outbox.ClaimRequest{Instance: p.Instance, Now: time.Now(), Until: time.Now(), Limit: 1}))
		},
	} {
		var n atomic.Int64
		calls[name] = func(context.Context) error { return change(int(1000 + n.Add(1))) }
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	var failures atomic.Int64
	for name, call := range calls {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := call(t.Context()); err != nil {
					if failures.Add(1); fault.KindOf(err) != fault.Unavailable {
						t.Errorf("%s: %v (%#v)", name, err, err)
					}
				}
			}
		})
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(time.Duration(rand.N(int(10 * time.Millisecond)))) {
		proxy.SetExisting(faultproxy.Reset)
	}
	close(stop)
	all.Wait()
	if failures.Load() == 0 {
		t.Error("nothing has failed")
	}
}
