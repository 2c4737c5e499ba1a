package pgtest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/mailkeep/mailkeep/internal/pgcluster"
)

func TestMain(m *testing.M) { Main(m) }

// TestDatabase takes several at a time: each is there, is nobody else's, and goes with its test.
func TestDatabase(t *testing.T) {
	sharedCluster(t)
	const tests = 4
	var mu sync.Mutex
	seen := map[string]bool{}
	t.Run("group", func(t *testing.T) {
		for range tests {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				u, err := url.Parse(Database(t))
				if err != nil {
					t.Fatal("no URL") // the error would have the password
				}
				name := strings.TrimPrefix(u.Path, "/")
				if u.Scheme != "postgres" || u.Host != sharedCluster(t).Address() || query(t, name, "SELECT current_database()") != name {
					t.Errorf("%s is no database of ours", u.Redacted())
				}
				mu.Lock()
				defer mu.Unlock()
				seen[name] = true
			})
		}
	})
	if len(seen) != tests {
		t.Errorf("%d tests had %d databases", tests, len(seen))
	}
	if left := query(t, "postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'"); left != "0" {
		t.Errorf("%s databases are left", left)
	}
}

func query(t *testing.T, database, statement string) string {
	t.Helper()
	answer, err := sharedCluster(t).Query(t.Context(), database, statement)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestCluster checks that a test's own cluster and standby end with it.
func TestCluster(t *testing.T) {
	if _, err := pgcluster.Find(); err != nil {
		orSkip(t, err)
	}
	var all []*pgcluster.Cluster
	t.Run("", func(t *testing.T) {
		primary := Cluster(t, pgcluster.Options{Settings: map[string]string{"max_connections": "300"}, InMemory: true})
		second := Standby(t, primary, "second", pgcluster.Options{InMemory: true}) // needs as many connections
		all = append(all, primary, second)
		for _, c := range all {
			if !c.Running() {
				t.Errorf("%v does not run", c)
			}
		}
	})
	for _, c := range all {
		if c.Running() {
			t.Errorf("%v goes on after its test", c)
		}
	}
}

// recorder is a test that only notes how it ended.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper()                        {}
func (r *recorder) Skipf(form string, args ...any) { r.skipped = fmt.Sprintf(form, args...); panic(r) }
func (r *recorder) Fatal(args ...any)              { r.failed = fmt.Sprint(args...); panic(r) }

// TestWithoutPostgres checks what becomes of a test where PostgreSQL is missing, or does not work.
func TestWithoutPostgres(t *testing.T) {
	missing := fmt.Errorf("%w: no postgres on PATH", pgcluster.ErrMissing)
	broken := errors.New("initdb: no space left on device")
	for _, c := range []struct {
		ci, required string
		err          error
		skipped      bool
	}{
		{"", "", missing, true},
		{"false", "0", missing, true},
		{"true", "", missing, false},
		{"1", "", missing, false},
		{"", "1", missing, false},
		{"", "", broken, false},
	} {
		t.Setenv("CI", c.ci)
		t.Setenv("MAILKEEP_REQUIRE_POSTGRES", c.required)
		r := &recorder{}
		func() {
			defer func() { _ = recover() }()
			orSkip(r, c.err)
		}()
		said := r.skipped + r.failed
		if (r.skipped != "") != c.skipped || (r.failed == "") != c.skipped || !strings.Contains(said, c.err.Error()) {
			t.Errorf("CI=%s MAILKEEP_REQUIRE_POSTGRES=%s, %v: skipped with %q, failed with %q", c.ci, c.required, c.err, r.skipped, r.failed)
		}
	}
}
