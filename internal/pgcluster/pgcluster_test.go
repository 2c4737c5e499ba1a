package pgcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

// start starts a cluster for a test, or skips it where PostgreSQL is missing; pgtest is the loud one.
func start(t *testing.T, options Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), options)
	return started(t, c, err)
}

var shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// common is a cluster for the tests that leave it as it was.
func common(t *testing.T) *Cluster {
	t.Helper()
	shared.once.Do(func() { shared.cluster, shared.err = Start(context.Background(), Options{InMemory: true}) })
	if errors.Is(shared.err, ErrMissing) {
		t.Skip(shared.err)
	}
	must(t, shared.err)
	return shared.cluster
}

func standby(t *testing.T, primary *Cluster, name string) *Cluster {
	t.Helper()
	c, err := primary.Standby(t.Context(), name, Options{InMemory: true})
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
	primary := start(t, Options{InMemory: true})
	_, err := primary.Query(ctx, admin, "CREATE TABLE seen (n int)", "ALTER SYSTEM SET work_mem = '7MB'")
	must(t, err)
	second := standby(t, primary, "second")
	is(t, second, "SHOW work_mem", "4MB") // nor would it wait for standbys of the primary's
	must(t, primary.SetSynchronous(ctx, "second"))
	is(t, second, "SELECT pg_is_in_recovery()", "t")

	must(t, second.Freeze(ctx))
	if answered(t, primary, "INSERT INTO seen VALUES (1)", silence) {
		t.Error("a commit does not wait for the synchronous standby")
	}
	must(t, second.Thaw())
	if !answered(t, primary, "INSERT INTO seen VALUES (2)", patience) {
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
	if !answered(t, primary, "INSERT INTO seen VALUES (4)", patience) {
		t.Error("a commit waits for a standby that it need not wait for")
	}
}

// silence is ample for a statement that need not wait.
const silence = 500 * time.Millisecond

// answered says whether a statement is, within a limit.
func answered(t *testing.T, c *Cluster, statement string, limit time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := c.Query(ctx, admin, statement)
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return err == nil
}

// TestSettings reads back what a cluster promises about itself, and that a test can ask for another.
func TestSettings(t *testing.T) {
	t.Setenv("PGHOST", "nowhere.invalid") // a developer's own server is none of our business
	t.Setenv("PGOPTIONS", "-c fsync=nonsense")
	c := start(t, Options{Settings: map[string]string{"work_mem": "5MB", "fsync": "off", "cluster_name": "it's"}})
	for name, want := range map[string]string{
		"full_page_writes": "on", "synchronous_commit": "on", "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
		"work_mem": "5MB", "fsync": "off", "cluster_name": "it's",
	} {
		is(t, c, "SHOW "+name, want)
	}
	plain := common(t)
	is(t, plain, "SHOW fsync", "on")
	if !strings.HasPrefix(c.folder, c.home.disk+"/") || !strings.HasPrefix(plain.folder, c.home.memory+"/") {
		t.Errorf("on disk it is in %s, in memory in %s", c.folder, plain.folder)
	}
	if stat, err := os.Stat(fmt.Sprintf("/proc/%d", plain.PID())); err != nil || stat.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Errorf("it runs as root (%v)", err)
	}
}

// TestURL checks who gets in: the service as the owner of its database, nobody without the password.
func TestURL(t *testing.T) {
	ctx := t.Context()
	c := common(t)
	const name = `a-b "c"`
	must(t, c.CreateDatabase(ctx, name))
	psql := func(url, statement string) (string, error) {
		command := c.home.command(ctx, "psql", "--no-psqlrc", "--no-password", "-At", "--command="+statement, url)
		output, err := command.CombinedOutput()
		return strings.TrimSpace(string(output)), err
	}
	const who = "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user"
	free, err := loopback.FreePort()
	must(t, err)
	for url, want := range map[string]string{
		c.URL(name):      "mailkeep|" + name + "|f",
		c.AdminURL(name): "postgres|" + name + "|t",
		c.URLAt(name, loopback.Address(free), c.Address()) + "&target_session_attrs=read-write": "mailkeep|" + name + "|f",
	} {
		if got, err := psql(url, who); err != nil || got != want {
			t.Errorf("%q, not %q (%v)", got, want, err)
		}
		if got, err := psql(url, "CREATE TABLE IF NOT EXISTS of_"+want[:8]+" ()"); err != nil {
			t.Errorf("it can't make a table: %s", got)
		}
		if got, err := psql(strings.Replace(url, c.home.password, "wrong", 1), who); err == nil || !strings.Contains(got, "password authentication failed") {
			t.Errorf("with a wrong password: %q (%v)", got, err)
		}
	}
	must(t, c.DropDatabase(ctx, name))
	if _, err := c.Query(ctx, name, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a database that was dropped: %v", err)
	}
}

// TestCommand runs a client program that is not psql.
func TestCommand(t *testing.T) {
	c := common(t)
	output, err := c.Command(t.Context(), "pg_dump", "--schema-only", admin).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "PostgreSQL database dump complete") {
		t.Errorf("pg_dump: %v\n%s", err, output)
	}
}

// TestStartFails checks that the error has the server's reason and no secret, and that nothing is left.
func TestStartFails(t *testing.T) {
	c := start(t, Options{InMemory: true})
	before := folders(t, c)
	_, err := Start(t.Context(), Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("with a setting that there is not: %v", err)
	}
	_, err2 := c.Standby(t.Context(), "Robert'); DROP", Options{})
	_, err3 := c.Query(t.Context(), "nowhere", "SELECT 1")
	must(t, c.Stop(t.Context()))
	_, err4 := c.Standby(t.Context(), "late", Options{})
	err5 := c.SetSynchronous(t.Context(), "late")
	err6 := c.Promote(t.Context())
	for i, err := range []error{err, err2, err3, err4, err5, err6} {
		if err == nil {
			t.Errorf("%d: no error", i)
		} else if strings.Contains(err.Error(), c.home.password) {
			t.Errorf("%d: the error has the password", i)
		}
	}
	if text := fmt.Sprintf("%v %+v %s", c, c, c); strings.Contains(text, c.home.password) {
		t.Error("printing a cluster prints its password")
	}
	if n := folders(t, c); n != before {
		t.Errorf("there are %d folders, not %d: failures leave theirs", n, before)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(canceled, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// folders counts those of all clusters.
func folders(t *testing.T, c *Cluster) int {
	t.Helper()
	onDisk, err := os.ReadDir(c.home.disk)
	must(t, err)
	all, err := os.ReadDir(c.home.memory)
	must(t, err)
	return len(onDisk) + len(all)
}
