package pgcluster

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/loopback"
)

// busy starts a client whose session is in the midst of a statement, until the test ends.
func busy(t *testing.T, c *Cluster) *exec.Cmd {
	t.Helper()
	client := c.Command(t.Context(), "psql", "--no-psqlrc", "--dbname="+admin, "--command=SELECT pg_sleep(3600)")
	must(t, client.Start())
	t.Cleanup(func() {
		_ = client.Process.Kill()
		_ = client.Wait()
	})
	eventually(t, "the session is there", func() bool {
		n, err := c.Query(t.Context(), admin, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
		must(t, err)
		return n == "1"
	})
	return client
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	if !within(patience, done) {
		t.Fatalf("%s: not within %v", what, patience)
	}
}

func within(limit time.Duration, done func() bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// TestKill kills a server with a session at work, running and frozen, and starts it again. The control
// is to kill the postmaster only: while its children are frozen, they stay.
func TestKill(t *testing.T) {
	ctx := t.Context()
	c := start(t, Options{InMemory: true})
	_, err := c.Query(ctx, admin, "CREATE TABLE seen (n int)", "INSERT INTO seen VALUES (1)")
	must(t, err)
	for _, frozen := range []bool{false, true} {
		client := busy(t, c)
		if frozen {
			must(t, c.Freeze(ctx))
		}
		all := slices.DeleteFunc(family(c.PID()), process.gone)
		if len(all) < 6 || loopback.IsFree(c.port) || !c.Running() {
			t.Fatalf("before it was killed there are %d processes of it", len(all))
		}
		must(t, c.Kill(ctx))
		if left := slices.DeleteFunc(all, process.gone); len(left) > 0 {
			t.Errorf("there is still %+v", left)
		}
		if !loopback.IsFree(c.port) || c.Running() {
			t.Error("it is killed and still there")
		}
		if err := client.Wait(); err == nil {
			t.Error("the client has not noticed")
		}
		must(t, c.Kill(ctx)) // is gone already
		must(t, c.StartAgain(ctx))
		is(t, c, "SELECT n FROM seen", "1")
	}

	must(t, c.Freeze(ctx))
	all := family(c.PID())
	must(t, all[0].signal(syscall.SIGKILL))
	eventually(t, "the postmaster is gone", func() bool { return !c.Running() })
	if slices.IndexFunc(all[1:], func(p process) bool { return !p.gone() }) < 0 {
		t.Error("its frozen children went with it: that Kill left none proves nothing")
	}
	must(t, signalAll(all, syscall.SIGKILL))
	eventually(t, "its children are gone", func() bool { return !slices.ContainsFunc(all, func(p process) bool { return !p.gone() }) })
}

// TestFreeze checks that a frozen server is there and silent, and goes on where it was.
func TestFreeze(t *testing.T) {
	ctx := t.Context()
	c := common(t)
	busy(t, c)
	going := func() int { return len(slices.DeleteFunc(family(c.PID()), process.stopped)) }
	if n := going(); n < 6 {
		t.Errorf("only %d processes run before", n)
	}
	must(t, c.Freeze(ctx))
	must(t, c.Freeze(ctx)) // is frozen already
	if n := going(); n > 0 || !c.Running() {
		t.Errorf("%d processes go on", n)
	}
	conn, err := net.Dial("tcp", c.Address())
	must(t, err) // the system answers in its place
	conn.Close()
	if answered(t, c, "SELECT 1", silence) {
		t.Error("a frozen server answers")
	}
	must(t, c.Thaw())
	eventually(t, "all go on", func() bool { return going() == len(family(c.PID())) })
	is(t, c, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'", "1")
}

// TestStop checks what a server that doesn't run can be asked, and that an ordered stop keeps all.
func TestStop(t *testing.T) {
	ctx := t.Context()
	c := start(t, Options{InMemory: true})
	address, pid := c.Address(), c.PID()
	if err := c.StartAgain(ctx); err == nil {
		t.Error("it was started twice")
	}
	_, err := c.Query(ctx, admin, "CREATE TABLE seen (n int)")
	must(t, err)
	must(t, c.Restart(ctx))
	if c.PID() == pid || c.Address() != address {
		t.Errorf("after Restart it is process %d at %s, before it was %d at %s", c.PID(), c.Address(), pid, address)
	}
	is(t, c, "SELECT count(*) FROM seen", "0")
	must(t, c.Stop(ctx))
	must(t, c.Stop(ctx))
	if c.Running() || c.PID() != 0 || !loopback.IsFree(c.port) {
		t.Error("it is stopped and still there")
	}
	if c.Freeze(ctx) == nil || c.Thaw() == nil {
		t.Error("a stopped server was frozen or thawed")
	}
	must(t, c.Kill(ctx))

	taken, err := net.Listen("tcp", address)
	must(t, err)
	if err := c.StartAgain(ctx); err == nil || !strings.Contains(err.Error(), "could not bind") {
		t.Errorf("on a port that is taken: %v", err)
	}
	must(t, taken.Close())
	must(t, c.StartAgain(ctx))
}

// TestClose checks that nothing is left, shared memory neither, which outlives a process.
func TestClose(t *testing.T) {
	c := start(t, Options{InMemory: true})
	all, segment := family(c.PID()), c.pidFile(lineSegment)
	fields := strings.Fields(segment)
	if len(fields) != 2 || !hasSegment(t, fields[1]) {
		t.Fatalf("postmaster.pid says its shared memory is %q, which is not there", segment)
	}
	must(t, c.Kill(t.Context()))
	if !hasSegment(t, fields[1]) {
		t.Error("shared memory goes with the process: that Close left none proves nothing")
	}
	must(t, c.Close())
	if slices.ContainsFunc(all, func(p process) bool { return !p.gone() }) || hasSegment(t, fields[1]) {
		t.Error("processes or shared memory are left")
	}
	if _, err := os.Stat(c.folder); !os.IsNotExist(err) {
		t.Errorf("its folder is left (%v)", err)
	}
	must(t, c.Close())
}

func hasSegment(t *testing.T, id string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/sysvipc/shm")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == id {
			return true
		}
	}
	return false
}
