package sqlstore

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/faultproxy"
	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// pair is a primary with a synchronous standby, each behind a proxy.
type pair struct {
	primary, standby *pgcluster.Cluster
	proxies          [2]*faultproxy.Proxy
	url              string // names the primary first, and says nothing of TLS
}

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{primary: pgtest.Cluster(t, pgcluster.Options{})}
	err := p.primary.CreateDatabase(t.Context(), "mailkeep")
	if err == nil {
		p.standby = pgtest.Standby(t, p.primary, "standby", pgcluster.Options{})
		err = p.primary.SetSynchronous(t.Context(), "standby")
	}
	if err != nil {
		t.Fatal(err)
	}
	direct, err := url.Parse(p.primary.URL("mailkeep"))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []*pgcluster.Cluster{p.primary, p.standby} {
		if p.proxies[i], err = faultproxy.Listen(c.Address()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.proxies[i].Close() })
	}
	direct.Host, direct.RawQuery = p.proxies[0].Address()+","+p.proxies[1].Address(), ""
	p.url = direct.String()
	return p
}

// TestTakeover has the standby take over from a primary that was killed, and that one come back: whoever saw
// the new one, and whoever starts while it answers, has nothing to do with the old one.
func TestTakeover(t *testing.T) {
	ctx := t.Context()
	servers := startPair(t)
	db := openURL(t, servers.url, Options{})
	p := addProvider(t, db, 1)
	fill(t, db)
	must(t, servers.primary.Kill(ctx))
	nobodyServes(t, db, servers)
	must(t, servers.standby.Promote(ctx))
	for deadline := time.Now().Add(postgresPatience + slack); ; {
		sequence, err := db.Apply(ctx, updated(p))
		if err == nil {
			p.Sequence = sequence
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no change after the promotion: %v", err)
		}
	}
	must(t, servers.primary.StartAgain(ctx))
	before := servers.proxies[0].Counts().ToServer
	for _, store := range []*DB{db, openURL(t, servers.url, Options{}), db} {
		fill(t, store)
		if p, err := store.Provider(ctx, p.Instance, p.ID); err != nil || p.Sequence != 2 {
			t.Errorf("the provider has sequence %d, %v", p.Sequence, err)
		}
	}
	addProvider(t, db, 2)
	if n, err := servers.primary.Query(ctx, "mailkeep", "SELECT count(*) FROM events"); err != nil || n != "1" {
		t.Errorf("the old primary has %s events, %v; it had one", n, err)
	}
	if servers.proxies[0].Counts().ToServer == before {
		t.Error("nobody has looked at the old primary")
	}
}

// nobodyServes has many callers while there is a standby only: they are answered in time, and that there is
// nobody is asked for seldom.
func nobodyServes(t *testing.T, db *DB, servers *pair) {
	t.Helper()
	const callers, span = 64, 2 * time.Second
	goroutines, before, began := runtime.NumGoroutine(), servers.proxies[1].Counts().Accepted, time.Now()
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			for time.Since(began) < span {
				asked := time.Now()
				_, err := db.Apply(context.Background(), added(provider(100+n)))
				if took := time.Since(asked); fault.KindOf(err) != fault.Unavailable || took > postgresPatience+slack {
					t.Errorf("a change without a primary: %v after %s", err, took)
				}
				if err := second(db.Provider(context.Background(), "default", fmt.Sprint(n))); fault.KindOf(err) != fault.Unavailable {
					t.Errorf("a read without a primary: %v", err)
				}
			}
		})
	}
	all.Wait()
	surveys := int(time.Since(began)/surveyPause) + 2
	if asked := servers.proxies[1].Counts().Accepted - before; asked > 2*surveys { // each way, with TLS and without
		t.Errorf("the standby was connected to %d times in %s", asked, time.Since(began))
	}
	for deadline := time.Now().Add(postgresPatience + slack); runtime.NumGoroutine() > goroutines+10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left of %d callers, there were %d before", runtime.NumGoroutine(), callers, goroutines)
		}
	}
}

// TestFence: what it takes note of, and what it refuses.
func TestFence(t *testing.T) {
	safe := identity{system: "1", timeline: 1, fsync: "on", pages: "on", sync: "on"}
	with := func(change func(*identity)) identity { id := safe; change(&id); return id }
	second, third := with(func(id *identity) { id.timeline = 2 }), with(func(id *identity) { id.timeline = 3 })
	unsafe := with(func(id *identity) { id.timeline, id.fsync = 2, "off" })
	for name, c := range map[string]struct {
		seen   []identity
		then   identity
		refuse string
	}{
		"the same":                     {[]identity{safe}, safe, ""},
		"a later one":                  {[]identity{safe}, third, ""},
		"an earlier one":               {[]identity{third}, second, "on timeline 2 and another has taken over from it on timeline 3"},
		"a standby":                    {nil, with(func(id *identity) { id.readOnly = true }), "takes no changes"},
		"another cluster":              {[]identity{safe}, with(func(id *identity) { id.system = "2" }), "belongs to cluster 2 and the one before to cluster 1"},
		"an unsafe one":                {nil, unsafe, "fsync is off"},
		"the one before an unsafe one": {[]identity{safe, unsafe}, safe, "another has taken over"},
	} {
		f := &fence{log: slog.New(slog.DiscardHandler)}
		for _, id := range c.seen {
			_ = f.admit(id)
		}
		err := f.admit(c.then)
		if (err == nil) != (c.refuse == "") || err != nil && !strings.Contains(err.Error(), c.refuse) {
			t.Errorf("%s: %v, want %q", name, err, c.refuse)
		}
	}
}

// TestHosts: each host is looked at in every way that it may be connected to, and the primary is tried first.
func TestHosts(t *testing.T) {
	for query, ways := range map[string]int{"sslmode=disable": 1, "sslmode=prefer": 2, "": 2, "sslmode=require": 1} {
		config, err := pgxpool.ParseConfig("postgres://u@a:1,b:2,a:1,c:3/db?" + query)
		if err != nil {
			t.Fatal(err)
		}
		hosts := hostsOf(config.ConnConfig)
		if len(hosts) != 3 {
			t.Fatalf("%q: %d hosts", query, len(hosts))
		}
		for i, h := range hosts {
			if want := string(rune('a' + i)); h.Host != want || h.Port != uint16(i+1) || len(waysOf(h)) < ways {
				t.Errorf("%q: host %d is %s:%d, with %d ways to it", query, i, h.Host, h.Port, len(waysOf(h)))
			}
		}
		c := config.ConnConfig.Copy()
		prefer(&c.Config, hosts[1])
		var order []string
		for _, way := range waysOf(&c.Config) {
			order = append(order, way.Host)
		}
		all := 4 * ways
		if len(order) != all || strings.Join(order[:ways], "") != strings.Repeat("b", ways) || c.Port != 2 {
			t.Errorf("%q: tried in the order %v", query, order)
		}
	}
}

// TestRecentsOfAnotherTimeline: a new primary may give a sequence to something else, so nothing of the one
// before is remembered.
func TestRecentsOfAnotherTimeline(t *testing.T) {
	var r recents
	key := providerKey{instance: "default", id: "1"}
	r.put(1, key, providerRow{sequence: 8, description: "lost"})
	if _, ok := r.get(1, key); !ok {
		t.Fatal("nothing is remembered")
	}
	if _, ok := r.get(2, key); ok {
		t.Error("a provider of an earlier timeline is remembered")
	}
	r.put(2, key, providerRow{sequence: 8, description: "new"})
	r.put(1, key, providerRow{sequence: 9, description: "late"})
	if row, ok := r.get(2, key); !ok || row.description != "new" {
		t.Errorf("%q is remembered", row.description)
	}
	r.applied(1, &change{Change: added(provider(1))}, 10, nil)
	if _, ok := r.get(1, key); ok {
		t.Error("the timeline went back")
	}
}
