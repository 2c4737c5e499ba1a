package pgtest_test

import (
	"net/url"
	"testing"

	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestDatabase checks that each has a name of its own; what they are is for the store's tests.
func TestDatabase(t *testing.T) {
	first, second := pgtest.Database(t), pgtest.Database(t)
	if first == second {
		t.Errorf("both are %s", first)
	}
	if u, err := url.Parse(first); err != nil || u.Scheme != "postgres" || u.Port() == "" {
		t.Errorf("no URL of a database (%v)", err)
	}
}
