package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
)

// commits returns a number that goes up by one with each transaction that SQLite has committed: the
// counter iChange of the index of the write-ahead log (https://sqlite.org/walformat.html, 2.1).
func commits(t testing.TB, path string) uint32 {
	t.Helper()
	index, err := os.ReadFile(path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	return binary.NativeEndian.Uint32(index[8:])
}

// callers is how many write at once.
const callers = 64

// TestGroupDifferent has many callers change a provider each.
func TestGroupDifferent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	const changes = 20
	before := commits(t, path)
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			p, c := provider(n), added(provider(n))
			for range changes {
				sequence, err := db.Apply(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				p.Sequence = sequence
				if got, err := db.Provider(t.Context(), p.Instance, p.ID); err != nil || got.Sequence != sequence {
					t.Errorf("after change %d a read has %d, %v", sequence, got.Sequence, err)
				}
				c = updated(p)
			}
		})
	}
	all.Wait()
	wantEvents(t, db, callers*changes)
	if n := commits(t, path) - before; n > callers*changes/4 {
		t.Errorf("%d commits for %d changes", n, callers*changes)
	} else {
		t.Logf("%d commits for %d changes", n, callers*changes)
	}
}

// TestGroupSame has many callers change one provider: each change that was answered is one event.
func TestGroupSame(t *testing.T) {
	db := open(t)
	p := addProvider(t, db, 1)
	var all sync.WaitGroup
	var lost atomic.Int64
	for range callers {
		all.Go(func() {
			for {
				p, err := db.Provider(t.Context(), p.Instance, p.ID)
				if err == nil {
					p.Credential.Version++
					_, err = db.Apply(t.Context(), updated(p))
				}
				if err == nil {
					return
				}
				if !errors.Is(err, emailprovider.ErrConflict) {
					t.Error(err)
					return
				}
				lost.Add(1)
			}
		})
	}
	all.Wait()
	wantEvents(t, db, 1+callers)
	got, err := db.Provider(t.Context(), p.Instance, p.ID)
	if err != nil || got.Credential.Version != p.Credential.Version+callers {
		t.Errorf("version %d (%v), want %d more than %d", got.Credential.Version, err, callers, p.Credential.Version)
	}
	if lost.Load() == 0 {
		t.Error("nobody was in another's way")
	}
}

// wantEvents fails unless there are n events, numbered from 1 without gaps.
func wantEvents(t *testing.T, db *DB, n int) {
	t.Helper()
	events, err := db.Events(t.Context(), "default", "", 0, n+1)
	if err != nil || len(events) != n {
		t.Fatalf("%d events (%v), want %d", len(events), err, n)
	}
	for i, e := range events {
		if e.Sequence != uint64(i+1) {
			t.Fatalf("event %d has sequence %d", i+1, e.Sequence)
		}
	}
}

// batch runs the writes in one transaction, in their order, and returns their outcomes. meanwhile
// may be nil; it is called when all are queued and none has begun. It needs a bubble.
func batch(t *testing.T, db *DB, meanwhile func(), writes ...func() error) []error {
	t.Helper()
	taken, err := lite(db).writer.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	errs := make([]error, len(writes))
	var all sync.WaitGroup
	for i, write := range writes {
		all.Go(func() { errs[i] = write() })
		synctest.Wait() // It is queued.
	}
	if meanwhile != nil {
		meanwhile()
		synctest.Wait()
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	return errs
}

// synctested is the test in a bubble.
func synctested(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// addInstance is a write that can be seen, and then answers err.
func addInstance(t *testing.T, db *DB, id string, err error) func() error {
	return func() error {
		return db.write(t.Context(), func(l *line) error {
			return errors.Join(insertInstance(l, id), err)
		})
	}
}

func insertInstance(l *line, id string) error {
	_, err := l.exec(`INSERT INTO instances (id, created) VALUES ($1, 0)`, id)
	return err
}

// wantInstances fails unless the store has exactly these.
func wantInstances(t *testing.T, db *DB, want ...string) {
	t.Helper()
	rows, err := db.reader.QueryContext(t.Context(), `SELECT id FROM instances WHERE id <> 'default' ORDER BY id`)
	got, err := collect(rows, err, func() (id string, err error) { return id, rows.Scan(&id) })
	if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("instances %q (%v), want %q", got, err, want)
	}
}

// TestGroupFailures has writes fail among others, in ways that are their own.
func TestGroupFailures(t *testing.T) { synctest.Test(t, testGroupFailures) }

func testGroupFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	before := commits(t, path)
	bug := errors.New("a bug")
	clean := func() error {
		return db.writeClean(t.Context(), func(*line) error { return bug })
	}
	errs := batch(t, db, nil,
		addInstance(t, db, "a", nil), addInstance(t, db, "b", bug), clean, addInstance(t, db, "a", nil), addInstance(t, db, "c", nil))
	if errs[0] != nil || !errors.Is(errs[1], bug) || !errors.Is(errs[2], bug) || lite(db).class(errs[3]) != uniqueViolation || errs[4] != nil {
		t.Errorf("outcomes: %v", errs)
	}
	wantInstances(t, db, "a", "c")
	if n := commits(t, path) - before; n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	errs = batch(t, db, nil, addInstance(t, db, "d", bug), addInstance(t, db, "e", bug))
	if !errors.Is(errs[0], bug) || !errors.Is(errs[1], bug) {
		t.Errorf("outcomes: %v", errs)
	}
	if err := addInstance(t, db, "f", bug)(); !errors.Is(err, bug) {
		t.Errorf("write: %v", err)
	}
	wantInstances(t, db, "a", "c")
	if n := commits(t, path) - before; n != 1 {
		t.Errorf("%d commits after writes that failed, want 1", n)
	}
}

// TestGroupUnclean has writes that are spared a savepoint fail after they have changed something: the
// others are made all the same, and once.
func TestGroupUnclean(t *testing.T) { synctest.Test(t, testGroupUnclean) }

func testGroupUnclean(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	before := commits(t, path)
	bug := errors.New("a bug")
	add := func(id string, err error) func() error {
		return func() error {
			return db.writeClean(t.Context(), func(l *line) error {
				_, failed := l.exec(`INSERT INTO instances (id, created) VALUES ($1, 0)`, id)
				return errors.Join(failed, err)
			})
		}
	}
	count := func() error {
		return db.writeClean(t.Context(), func(l *line) error {
			_, err := l.number(`UPDATE instances SET sequence = sequence + 1 WHERE id = 'default' RETURNING sequence`)
			return errors.Join(err, bug)
		})
	}
	errs := batch(t, db, nil, add("a", nil), addInstance(t, db, "b", nil), add("c", bug), count, add("d", nil))
	for i, err := range errs {
		if failed := i == 2 || i == 3; errors.Is(err, bug) != failed || !failed && err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	}
	wantInstances(t, db, "a", "b", "d")
	if n := commits(t, path) - before; n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	if err := add("e", bug)(); !errors.Is(err, bug) {
		t.Errorf("alone: %v", err)
	}
	if errs := batch(t, db, nil, count, count); !errors.Is(errs[0], bug) || !errors.Is(errs[1], bug) {
		t.Errorf("outcomes: %v", errs)
	}
	if errs := batch(t, db, nil, count, add("f", nil)); !errors.Is(errs[0], bug) || errs[1] != nil {
		t.Errorf("outcomes: %v", errs)
	}
	wantInstances(t, db, "a", "b", "d", "f")
	var sequence int
	if err := db.reader.QueryRowContext(t.Context(), `SELECT sequence FROM instances WHERE id = 'default'`).Scan(&sequence); err != nil || sequence != 0 {
		t.Errorf("sequence %d, %v: something of a failed write was kept", sequence, err)
	}
}

// TestGroupBroken has the machine fail in the middle of a batch.
func TestGroupBroken(t *testing.T) {
	for _, c := range []struct {
		name          string
		broken, whole string
		want          fault.Kind
	}{
		{"full", "PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1073741823", fault.ResourceExhausted},
		{"read-only", "PRAGMA query_only = 1", "PRAGMA query_only = 0", fault.Unavailable},
	} {
		t.Run(c.name, synctested(func(t *testing.T) {
			db := open(t)
			p := addProvider(t, db, 1)
			big := p
			big.Description = strings.Repeat("needs a page of its own", 1000)
			apply := func() error { _, err := db.Apply(t.Context(), updated(big)); return err }
			run(t, lite(db).writer, c.broken)
			errs := batch(t, db, nil, addInstance(t, db, "a", nil), apply, addInstance(t, db, "b", nil))
			for i, err := range errs {
				if fault.KindOf(err) != c.want || !strings.Contains(err.Error(), "MAILKEEP-STORE") {
					t.Errorf("write %d: %v, want kind %d", i, err, c.want)
				}
			}
			wantInstances(t, db)
			wantEvents(t, db, 1)
			run(t, lite(db).writer, c.whole)
			errs = batch(t, db, nil, addInstance(t, db, "a", nil), apply, addInstance(t, db, "b", nil))
			if err := errors.Join(errs...); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			wantInstances(t, db, "a", "b")
			wantEvents(t, db, 2)
		}))
	}
}

// TestGroupWithdrawn has callers lose interest, or patience, before their turn.
func TestGroupWithdrawn(t *testing.T) { synctest.Test(t, testGroupWithdrawn) }

func testGroupWithdrawn(t *testing.T) {
	db := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := provider(1)
	errs := batch(t, db, cancel,
		addInstance(t, db, "a", nil),
		func() error { _, err := db.Apply(ctx, added(p)); return err },
		addInstance(t, db, "b", nil))
	if errs[0] != nil || !errors.Is(errs[1], context.Canceled) || errs[2] != nil {
		t.Errorf("outcomes: %v", errs)
	}
	errs = batch(t, db, func() { time.Sleep(lite(db).patience) }, addInstance(t, db, "c", nil))
	if fault.KindOf(errs[0]) != fault.Unavailable || !strings.Contains(errs[0].Error(), "busy") {
		t.Errorf("out of patience: %v, want Unavailable, busy", errs[0])
	}
	// This one leaves when the batch has begun and its own job has not.
	ctx, cancel = context.WithCancel(t.Context())
	errs = batch(t, db, nil,
		func() error {
			return db.write(t.Context(), func(l *line) error {
				cancel()
				synctest.Wait()
				return insertInstance(l, "d")
			})
		},
		func() error { _, err := db.Apply(ctx, added(p)); return err })
	if errs[0] != nil || !errors.Is(errs[1], context.Canceled) {
		t.Errorf("outcomes: %v", errs)
	}
	if addProvider(t, db, 2).Sequence != 1 {
		t.Error("the change of a caller that left was made")
	}
	wantInstances(t, db, "a", "b", "d")
}

// TestGroupPanic has a write panic among others.
func TestGroupPanic(t *testing.T) { synctest.Test(t, testGroupPanic) }

func testGroupPanic(t *testing.T) {
	db := open(t)
	panics := func() (err error) {
		defer func() { err = fmt.Errorf("recovered: %v", recover()) }()
		return db.write(t.Context(), func(l *line) error {
			if err := insertInstance(l, "b"); err != nil {
				return err
			}
			panic("at the disco")
		})
	}
	errs := batch(t, db, nil, addInstance(t, db, "a", nil), panics, addInstance(t, db, "c", nil))
	if !strings.Contains(errs[1].Error(), "at the disco") {
		t.Errorf("the caller that panicked: %v", errs[1])
	}
	for _, i := range []int{0, 2} {
		if fault.KindOf(errs[i]) != fault.Unavailable {
			t.Errorf("write %d: %v, want Unavailable", i, errs[i])
		}
	}
	wantInstances(t, db)
	if err := addInstance(t, db, "d", nil)(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	wantInstances(t, db, "d")
}

// slowDisk is a database whose commits hang while the gate is not nil.
type slowDisk struct {
	driver.Connector
	gate atomic.Pointer[gate]
}

// gate says that somebody waits before it, and is opened.
type gate struct{ reached, open chan struct{} }

func (d *slowDisk) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := d.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return slowConn{conn.(driverConn), d}, nil
}

type slowConn struct {
	driverConn
	disk *slowDisk
}

func (c slowConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s, err := c.driverConn.PrepareContext(ctx, query)
	if err == nil && query == "COMMIT" {
		return slowCommit{s.(driverStmt), c.disk}, nil
	}
	return s, err
}

type slowCommit struct {
	driverStmt
	disk *slowDisk
}

func (s slowCommit) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if g := s.disk.gate.Load(); g != nil {
		close(g.reached)
		<-g.open
	}
	return s.driverStmt.ExecContext(ctx, args)
}

// TestStuckCommit has a commit hang: everybody is answered in time and knows what is known, and once
// it goes on, so does the store.
func TestStuckCommit(t *testing.T) { synctest.Test(t, testStuckCommit) }

func testStuckCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	p := addProvider(t, db, 1)
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "synchronous(FULL)"}}
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}
	disk := &slowDisk{Connector: sqliteConnector(t, dsn.String())}
	if err := lite(db).writer.Close(); err != nil {
		t.Fatal(err)
	}
	lite(db).writer = sql.OpenDB(hotConnector{disk})
	lite(db).writer.SetMaxOpenConns(1)
	if err := lite(db).prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	stuck := &gate{make(chan struct{}), make(chan struct{})}
	disk.gate.Store(stuck)

	if _, err := db.Apply(t.Context(), updated(p)); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "MAILKEEP-OUTCOME") {
		t.Errorf("the change that hangs: %v, want MAILKEEP-OUTCOME", err)
	}
	<-stuck.reached
	if err := addInstance(t, db, "a", nil)(); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a change behind it: %v, want busy", err)
	}
	for range 2 {
		if got, err := db.Provider(t.Context(), p.Instance, p.ID); err != nil || got.Sequence != p.Sequence {
			t.Errorf("meanwhile a read has sequence %d, %v, want %d", got.Sequence, err, p.Sequence)
		}
	}
	disk.gate.Store(nil)
	close(stuck.open)
	if err := addInstance(t, db, "b", nil)(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if got, err := db.Provider(t.Context(), p.Instance, p.ID); err != nil || got.Sequence != p.Sequence+1 {
		t.Errorf("afterwards a read has sequence %d, %v, want %d", got.Sequence, err, p.Sequence+1)
	}
	wantInstances(t, db, "b")
}

// TestRunaway has a job that does not end: nothing of it stays, and what it goes on with is not run
// outside its transaction.
func TestRunaway(t *testing.T) {
	db := open(t)
	lite(db).patience = 20 * time.Millisecond
	ended := make(chan error, 1)
	err := db.write(t.Context(), func(l *line) (err error) {
		for n := 0; err == nil && n < 1e6; n++ {
			_, err = l.exec(`UPDATE instances SET created = created + 1`)
		}
		ended <- err
		return err
	})
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("await: %v, want Unavailable", err)
	}
	if err := <-ended; !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("a statement after the end: %v, want sql.ErrTxDone", err)
	}
	var created int64
	if err := db.reader.QueryRowContext(t.Context(), `SELECT created FROM instances`).Scan(&created); err != nil || created != 0 {
		t.Errorf("%d statements were kept (%v)", created, err)
	}
}
