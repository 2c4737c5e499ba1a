package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// haunted is what came of calls while a former primary, which is listed first, was there again.
type haunted struct {
	reads, stale, writes int
	touched              bool // rows were looked for at the former primary
	verdict
}

// haunt has the standby take over from the primary, which was killed and starts again, or hung and goes on
// with the connections that it had. old is told where it is.
func haunt(t *testing.T, hangs bool, wrap func(app.Store) app.Store, old func(*servers, *pgcluster.Cluster)) (h haunted) {
	t.Helper()
	s := startServers(t, false)
	f := startFleet(t, 3, s.url(), func(_ int, c *app.Config) { c.WrapStore = wrap })
	inbox := friendly(t)
	j := newJournal(t, f.any)
	id := j.mustAdd(inbox.Addr())
	j.load(inbox.Addr(), 4, 4)
	j.more(200, soon)

	former := s.now()
	if hangs {
		s.must(former.Freeze(t.Context()))
	} else {
		s.must(former.Kill(t.Context()))
	}
	s.takeOver()
	j.recovered(f.urls())
	if hangs {
		s.must(former.Thaw())
	} else {
		s.must(former.StartAgain(t.Context()))
	}
	had, looked := s.onlyAt(former), "" // what it had not told anybody of when it was killed
	if !hangs {
		looked = s.lookedFor(former)
	}
	if old != nil {
		old(s, former)
	}
	c := replica(t, s.url(), filepath.Join(t.TempDir(), "none"))
	c.KeysetFile, c.WrapStore = f.keyset, wrap
	f.join(start(t, c))
	h.reads, h.stale = j.readBack(f, id, inbox.Addr(), atLength(30, 200))
	j.stop()
	if !hangs { // else it goes on with what it was asked before
		h.touched = s.lookedFor(former) != looked
	}
	h.verdict = j.judge(s.db())
	h.writes = s.onlyAt(former) - had
	how := "killed"
	if hangs {
		how = "hung"
	}
	t.Logf("REL zombie primary=%s reads=%d stale_reads=%d writes=%d rows_looked_for=%v; %v", how, h.reads, h.stale, h.writes, h.touched, h.verdict)
	return h
}

// readBack changes a provider through one replica after the other and reads it through all of them.
func (j *journal) readBack(f *fleet, id, host string, n int) (reads, stale int) {
	j.t.Helper()
	for range n {
		e := j.update(id, host)
		if e.outcome != made {
			continue
		}
		for _, url := range f.urls() {
			status, answer, err := j.call(url, "", "GET", "/admin/v1/email/"+id, "")
			var said struct {
				Config struct {
					Description string `json:"description"`
				} `json:"config"`
			}
			if err != nil || status != 200 || json.Unmarshal([]byte(answer), &said) != nil {
				j.t.Fatalf("a provider can't be read: %d %s %v", status, answer, err)
			}
			if reads++; said.Config.Description != e.op {
				stale++
			}
		}
	}
	return reads, stale
}

// lookedFor is how often rows were looked for at a server.
func (s *servers) lookedFor(at *pgcluster.Cluster) string {
	s.t.Helper()
	return s.query(at, "SELECT sum(seq_scan + coalesce(idx_scan, 0)) FROM pg_stat_user_tables")
}

// onlyAt counts the events and mails that a former primary has, and the present one has not.
func (s *servers) onlyAt(former *pgcluster.Cluster) (n int) {
	s.t.Helper()
	for _, rows := range []string{"SELECT sequence, user_agent FROM events", "SELECT id, idempotency_key FROM messages"} {
		there := map[string]bool{}
		for _, row := range strings.Split(s.query(s.now(), rows), "\n") {
			there[row] = true
		}
		for _, row := range strings.Split(s.query(former, rows), "\n") {
			if !there[row] {
				n++
			}
		}
	}
	return n
}

// TestZombie: a former primary that is there again is not read from and not written to, by replicas that have
// run all the time or by one that starts now, although it is listed first and takes connections.
func TestZombie(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprintf("hangs=%v", hangs), func(t *testing.T) {
			t.Parallel()
			h := haunt(t, hangs, nil, nil)
			if h.stale > 0 || h.writes > 0 || h.touched || !h.clean() {
				t.Error("the promise is broken")
			}
			if h.reads < 100 {
				t.Error("it was hardly looked at")
			}
		})
	}
}

// misled is a store that reads providers from a former primary, once there is one.
type misled struct {
	app.Store
	old *atomic.Pointer[sqlstore.DB]
}

func (m misled) Provider(ctx context.Context, instance, id string) (emailprovider.Provider, error) {
	if old := m.old.Load(); old != nil {
		if p, err := old.Provider(ctx, instance, id); err == nil {
			return p, nil
		}
	}
	return m.Store.Provider(ctx, instance, id)
}

// TestZombieIsMeasured sees that the test above would notice who reads from a former primary, or writes to it.
func TestZombieIsMeasured(t *testing.T) {
	t.Parallel()
	var old atomic.Pointer[sqlstore.DB]
	h := haunt(t, false, func(s app.Store) app.Store { return misled{s, &old} }, func(s *servers, former *pgcluster.Cluster) {
		s.must(former.SetSynchronous(t.Context(), "")) // else nothing would come of a change
		db := s.open(former)
		list, err := db.List(t.Context(), instance.Default, emailprovider.Query{Limit: 1})
		s.must(err)
		p := list.Providers[0]
		p.Changed = time.Now()
		_, err = db.Apply(t.Context(), emailprovider.Change{
			Event: emailprovider.Event{Instance: p.Instance, Type: emailprovider.EventUpdated, ProviderID: p.ID}, Expect: p.Sequence,
			ExpectKey: p.Credential.Sealed.KeyID, Put: &p,
		})
		s.must(err)
		old.Store(db)
	})
	if !h.touched || h.stale == 0 || h.writes == 0 {
		t.Error("it was not noticed")
	}
}
