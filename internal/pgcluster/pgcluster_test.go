package pgcluster

import (
	"context"
	"errors"
	"testing"
	"time"
)

// start starts a cluster for a test, or skips it where PostgreSQL is missing; pgtest is the loud one.
func start(t *testing.T, options Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), options)
	return started(t, c, err)
}

func standby(t *testing.T, primary *Cluster, name string) *Cluster {
	t.Helper()
	c, err := primary.Standby(t.Context(), name, Options{})
	return started(t, c, err)
}

func started(t *testing.T, c *Cluster, err error) *Cluster {
	t.Helper()
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// is checks what a query returns.
func is(t *testing.T, c *Cluster, query, want string) {
	t.Helper()
	got, err := c.Query(t.Context(), admin, query)
	must(t, err)
	if got != want {
		t.Errorf("%s: %q, not %q", query, got, want)
	}
}

const timeline = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"

// TestFailover is the whole course: a synchronous standby is promoted after the primary was killed, and
// the old primary comes back as one, behind.
func TestFailover(t *testing.T) {
	ctx := t.Context()
	primary := start(t, Options{})
	second := standby(t, primary, "second")
	_, err := primary.Query(ctx, admin, "CREATE TABLE seen (n int)")
	must(t, err)
	must(t, primary.SetSynchronous(ctx, "second"))
	is(t, second, "SELECT pg_is_in_recovery()", "t")

	must(t, second.Freeze(ctx))
	if answered(t, primary, "INSERT INTO seen VALUES (1)") {
		t.Error("a commit does not wait for the synchronous standby")
	}
	must(t, second.Thaw())
	if !answered(t, primary, "INSERT INTO seen VALUES (2)") {
		t.Error("a commit waits for a standby that was thawed")
	}

	must(t, primary.Kill(ctx))
	must(t, second.Promote(ctx))
	is(t, second, "SELECT count(*) FROM seen WHERE n = 2", "1")
	is(t, second, "SHOW synchronous_standby_names", "")
	is(t, second, timeline, "00000002")
	_, err = second.Query(ctx, admin, "INSERT INTO seen VALUES (3)")
	must(t, err)

	address := primary.Address()
	must(t, primary.StartAgain(ctx))
	if primary.Address() != address {
		t.Errorf("it is at %s now, not %s", primary.Address(), address)
	}
	is(t, primary, "SELECT pg_is_in_recovery()", "f")
	is(t, primary, timeline, "00000001")
	is(t, primary, "SELECT count(*) FROM seen WHERE n = 3", "0")
	must(t, primary.SetSynchronous(ctx, ""))
	if !answered(t, primary, "INSERT INTO seen VALUES (4)") {
		t.Error("a commit waits for a standby that it need not wait for")
	}
}

// answered says whether a statement is, within what is ample for one that need not wait.
func answered(t *testing.T, c *Cluster, statement string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := c.Query(ctx, admin, statement)
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return err == nil
}
