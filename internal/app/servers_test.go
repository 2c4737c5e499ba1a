package app_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/faultproxy"
	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// servers are a primary of PostgreSQL and its standby. Each has an address that stays the same when another
// takes its place, and a network that can fail.
type servers struct {
	t       *testing.T
	at      [2]*faultproxy.Proxy
	cluster [2]*pgcluster.Cluster
	primary int // where it is
	made    int // standbys

	opened   *sqlstore.DB // of the primary, for the tests
	openedAt *pgcluster.Cluster
}

// database is where services keep everything.
const database = "mailkeep"

// startServers starts a primary, with a standby that commits wait for unless it is asynchronous.
func startServers(t *testing.T, asynchronous bool) *servers {
	t.Helper()
	s := &servers{t: t}
	s.cluster[0] = pgtest.Cluster(t, pgcluster.Options{})
	s.must(s.cluster[0].CreateDatabase(t.Context(), database))
	for i := range s.at {
		var err error
		s.at[i], err = faultproxy.Listen(s.cluster[0].Address())
		s.must(err)
		t.Cleanup(func() { _ = s.at[i].Close() })
	}
	s.addStandby(asynchronous)
	return s
}

func (s *servers) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// addStandby makes a standby of the primary, in place of what was there.
func (s *servers) addStandby(asynchronous bool) {
	s.t.Helper()
	place := 1 - s.primary
	if gone := s.cluster[place]; gone != nil {
		s.must(gone.Close())
	}
	s.made++
	name := fmt.Sprintf("standby_%d", s.made)
	s.cluster[place] = pgtest.Standby(s.t, s.now(), name, pgcluster.Options{})
	s.at[place].SetTarget(s.cluster[place].Address())
	if !asynchronous {
		s.must(s.now().SetSynchronous(s.t.Context(), name))
	}
}

// now is the primary, standby the other one.
func (s *servers) now() *pgcluster.Cluster     { return s.cluster[s.primary] }
func (s *servers) standby() *pgcluster.Cluster { return s.cluster[1-s.primary] }

// url names both, the first one first, whichever that is.
func (s *servers) url() string {
	s.t.Helper()
	u, err := url.Parse(s.cluster[0].URL(database))
	s.must(err)
	u.Host = s.at[0].Address() + "," + s.at[1].Address()
	return u.String()
}

// takeOver promotes the standby when the primary was killed, or hangs.
func (s *servers) takeOver() {
	s.t.Helper()
	s.must(s.standby().Promote(s.t.Context()))
	s.primary = 1 - s.primary
}

// open opens the database at a server as it is, without those that keep services from it.
func (s *servers) open(at *pgcluster.Cluster) *sqlstore.DB {
	s.t.Helper()
	db, err := sqlstore.OpenPostgres(context.Background(), at.URL(database), sqlstore.Options{})
	s.must(err)
	s.t.Cleanup(func() { _ = db.Close() })
	return db
}

// db is the primary's database, opened once.
func (s *servers) db() *sqlstore.DB {
	s.t.Helper()
	if s.openedAt != s.now() {
		s.opened, s.openedAt = s.open(s.now()), s.now()
	}
	return s.opened
}

// query asks a server something.
func (s *servers) query(at *pgcluster.Cluster, statement string) string {
	s.t.Helper()
	text, err := at.Query(context.Background(), database, statement)
	s.must(err)
	return text
}

// quiet waits until no commit waits for a standby.
func (s *servers) quiet() {
	s.t.Helper()
	eventually(s.t, soon, "without commits that wait", func() bool {
		return s.query(s.now(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "0"
	})
}

// soon is for what has to come.
const soon = time.Minute

// eventually waits until something is so.
func eventually(t *testing.T, patience time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: still not %s", patience, what)
		}
	}
}
