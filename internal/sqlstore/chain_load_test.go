package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// headless is a store whose chains end where their events do.
type headless struct {
	audit.Store
	chain *audit.Chain
}

func (h headless) AuditPage(ctx context.Context, instance string, from uint64, limit int) (audit.Page, error) {
	page, err := h.Store.AuditPage(ctx, instance, from, limit)
	last := page.Rows[len(page.Rows)-1]
	tag, _ := h.chain.Tag(&last)
	_, head := tag.Add(last.Sequence, make([]byte, len(audit.Mac{})))
	page.Youngest, page.Sequence, page.Head = 0, last.Sequence, head[:]
	return page, err
}

// TestTamperingRed has what would go unnoticed without the head, and with a key that others know.
func TestTamperingRed(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		db := open(t, "other")
		history(t, db)
		execute(t, db, `DELETE FROM events WHERE instance = 'default' AND sequence > 10`)
		if found := verify(t, headless{db, audit.New(ownKeys)}, audit.New(ownKeys), "default").Findings; len(found) > 0 {
			t.Errorf("without a head: %v; the test would not notice that it is left out", found)
		}
		if found := verify(t, db, audit.New(ownKeys), "default").Findings; !slices.Equal(found, []audit.Finding{{First: 11, Last: 12, What: audit.Missing}}) {
			t.Errorf("dropped: %v", found)
		}

		rechain(t, db, "default", audit.New(otherKeys))
		if found := verify(t, db, audit.New(otherKeys), "default").Findings; len(found) > 0 {
			t.Errorf("whoever has the key can make up a chain: %v", found)
		}
		if found := verify(t, db, audit.New(ownKeys), "default").Findings; !names(found, [2]uint64{1, 10}) {
			t.Errorf("with another key: %v", found)
		}
	})
}

// rechain makes a chain of what there is.
func rechain(t *testing.T, db *DB, instance string, chain *audit.Chain) {
	t.Helper()
	page, err := db.AuditPage(t.Context(), instance, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, len(audit.Mac{}))
	for _, r := range page.Rows {
		tag, err := chain.Tag(&r)
		if err != nil {
			t.Fatal(err)
		}
		row, mac := tag.Add(r.Sequence, head)
		head = mac[:]
		execute(t, db, `UPDATE events SET chain = $3 WHERE instance = $1 AND sequence = $2`, instance, r.Sequence, row)
	}
	execute(t, db, `UPDATE instances SET chain_head = $2, sequence = $3 WHERE id = $1`, instance, head, len(page.Rows))
	execute(t, db, `UPDATE providers SET sequence = 1`)
}

// TestChainUnderLoad has many callers, some of whom are refused, change things of two instances at the same time.
func TestChainUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		db := open(t, "other")
		load(t, []*DB{db})
	})
	t.Run("replicas", func(t *testing.T) {
		url := pgtest.Database(t)
		load(t, []*DB{openURL(t, url, Options{}, "other"), openURL(t, url, Options{}), openURL(t, url, Options{})})
	})
}

func load(t *testing.T, replicas []*DB) {
	t.Helper()
	const callers, changes = 24, 20
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			db := replicas[n%len(replicas)]
			p := provider(n + 1)
			p.Instance = []string{"default", "other"}[n%2]
			changeProvider(t, db, &p, added(p))
			for i := range changes - 1 {
				stale := updated(p)
				stale.Expect += 1000
				if _, err := db.Apply(t.Context(), stale); i%5 == 0 && !errors.Is(err, emailprovider.ErrConflict) {
					t.Errorf("a change of what is not there: %v", err)
				}
				changeProvider(t, db, &p, updated(p))
			}
		})
	}
	all.Wait()
	for _, instance := range []string{"default", "other"} {
		r := verify(t, replicas[0], audit.New(ownKeys), instance)
		if len(r.Findings) > 0 || r.Checked != callers*changes/2 {
			t.Errorf("instance %s: %d checked, %v", instance, r.Checked, r.Findings)
		}
	}
}

// TestChainBegins has events from before the chain, and a new key later.
func TestChainBegins(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		db := open(t)
		db.chain = nil
		p := addProvider(t, db, 1)
		for range 4 {
			changeProvider(t, db, &p, updated(p))
		}
		all := keys{7, 9}
		for i, k := range []keys{{7}, {7}, {9, 7}} {
			if err := db.BeginChain(t.Context(), audit.New(k)); err != nil {
				t.Fatal(err)
			}
			if r := verify(t, db, audit.New(all), "default"); len(r.Findings) > 0 || r.Before != 5 || r.Checked != i {
				t.Errorf("start %d: %+v", i, r)
			}
			changeProvider(t, db, &p, updated(p))
		}
		intact := save(t, db)
		for query, want := range map[string][2]uint64{
			`DELETE FROM events WHERE sequence = 3`:                           {3, 3},
			`DELETE FROM events WHERE sequence = 1`:                           {1, 1},
			`UPDATE events SET chain = NULL WHERE sequence = 6`:               {1, 6},
			`UPDATE events SET chain = NULL WHERE sequence = 7`:               {7, 7},
			`UPDATE events SET chain = NULL`:                                  {1, 8},
			`UPDATE events SET chain = '' WHERE sequence = 6`:                 {1, 6},
			`DELETE FROM events WHERE sequence = 6`:                           {6, 6},
			`UPDATE events SET name = name || 'x' WHERE sequence IN (6, 7)`:   {6, 7},
			`UPDATE events SET sequence = sequence + 1 WHERE sequence > 1000`: {},
		} {
			execute(t, db, query)
			found := verify(t, db, audit.New(all), "default").Findings
			if ok := names(found, want); ok == (want == [2]uint64{}) {
				t.Errorf("%s: %v, want %v", query, found, want)
			}
			intact.put(t, db)
		}
		if r := verify(t, db, audit.New(keys{9}), "default"); len(r.Findings) == 0 || r.Checked != 1 {
			t.Errorf("without the first key: %s", fmt.Sprint(r.Findings))
		}
	})
}
