// Package pgtest gives tests databases and clusters of PostgreSQL. Where it is not installed they are
// skipped, and fail in CI.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mailkeep/mailkeep/internal/pgcluster"
)

// shared is the cluster, in memory, that the databases of this test binary are in. It ends with the
// process.
var shared struct {
	sync.Mutex
	cluster *pgcluster.Cluster
}

var databases atomic.Int64

// Database returns the URL of a new, empty database, which is dropped when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	c := sharedCluster(t)
	name := "test" + strconv.FormatInt(databases.Add(1), 10)
	if err := c.CreateDatabase(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.DropDatabase(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	return c.URL(name)
}

func sharedCluster(t testing.TB) *pgcluster.Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		c, err := pgcluster.Start(context.Background(), pgcluster.Options{InMemory: true})
		if err != nil {
			orSkip(t, err)
		}
		shared.cluster = c
	}
	return shared.cluster
}

// Main is for TestMain: it runs the tests and closes the cluster that they share. Without it the cluster
// ends a moment after the process.
func Main(m *testing.M) {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster != nil {
		if err := shared.cluster.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Cluster starts a cluster for one test, which may do to it what it likes. It is closed when the test
// ends; if that has failed, with its log.
func Cluster(t testing.TB, options pgcluster.Options) *pgcluster.Cluster {
	t.Helper()
	c, err := pgcluster.Start(t.Context(), options)
	return started(t, c, err)
}

// Standby starts a standby of a cluster, in the same way.
func Standby(t testing.TB, primary *pgcluster.Cluster, name string, options pgcluster.Options) *pgcluster.Cluster {
	t.Helper()
	c, err := primary.Standby(t.Context(), name, options)
	return started(t, c, err)
}

func started(t testing.TB, c *pgcluster.Cluster, err error) *pgcluster.Cluster {
	t.Helper()
	if err != nil {
		orSkip(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%v has logged\n%s", c, c.Log())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// orSkip ends a test that can't have PostgreSQL: skipped if it is not installed and need not be.
func orSkip(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, pgcluster.ErrMissing) && !required(os.Getenv) {
		t.Skipf("NOT TESTED ON POSTGRESQL: %v. MAILKEEP_REQUIRE_POSTGRES=1 makes this a failure.", err)
	}
	t.Fatal(err)
}

// required says whether a test without PostgreSQL has failed.
func required(getenv func(string) string) bool {
	ci, _ := strconv.ParseBool(getenv("CI"))
	wanted, _ := strconv.ParseBool(getenv("MAILKEEP_REQUIRE_POSTGRES"))
	return ci || wanted
}
