package app_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// claims writes down who has which mails. The first replica can be made to hang: it neither keeps its leases nor
// settles anything until it goes on.
type claims struct {
	hang gate

	mu       sync.Mutex
	n        int
	given    map[outbox.Lease]bool
	held     map[string]holding // mails that are not settled
	twice    int                // mails that were handed out with one fence
	early    int                // that were handed out again before their lease was over
	outlived map[string]bool    // afterwards
}

// holding is a mail in the hands of a replica.
type holding struct {
	id       string
	fence    uint64
	until    time.Time
	first    bool // it is the first replica
	settling bool
}

// claiming is the store of a replica whose claims are written down.
type claiming struct {
	app.Store
	*claims
	first bool
}

// Claim implements outbox.Queue.
func (c claiming) Claim(ctx context.Context, r outbox.ClaimRequest) (outbox.Claim, error) {
	if c.first {
		c.hang.wait()
	}
	claim, err := c.Store.Claim(ctx, r)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range claim.Mails {
		c.n++
		lease := outbox.Lease{Instance: m.Instance, ID: m.ID, Fence: m.Version}
		if c.given[lease] {
			c.twice++
		}
		c.given[lease] = true
		before, ok := c.held[m.ID]
		switch over := ok && !r.Now.Before(before.until); {
		case ok && before.fence > m.Version:
			continue
		case over:
			c.outlived[m.ID] = true
		case ok && !before.settling: // else it was put back
			c.early++
		}
		c.held[m.ID] = holding{id: m.ID, fence: m.Version, until: r.Until, first: c.first}
	}
	return claim, err
}

// Extend implements outbox.Queue.
func (c claiming) Extend(ctx context.Context, held []outbox.Lease, until time.Time) ([]outbox.Lease, error) {
	if c.first && c.hang.closed() {
		return nil, errors.New("hangs")
	}
	lost, err := c.Store.Extend(ctx, held, until)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, lease := range held {
		if h := c.held[lease.ID]; err == nil && h.fence == lease.Fence && !slices.Contains(lost, lease) {
			h.until = until
			c.held[lease.ID] = h
		}
	}
	return lost, err
}

// Settle implements outbox.Queue.
func (c claiming) Settle(ctx context.Context, all []outbox.Settlement) ([]outbox.Lease, error) {
	if c.first {
		c.hang.wait()
	}
	c.settling(all, func(h holding) { h.settling = true; c.held[h.id] = h })
	refused, err := c.Store.Settle(ctx, all)
	if err == nil {
		c.settling(all, func(h holding) { delete(c.held, h.id) })
	}
	return refused, err
}

// settling does something with those mails that are still held with the fence they are settled with.
func (c *claims) settling(all []outbox.Settlement, do func(holding)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range all {
		if h := c.held[s.ID]; h.fence == s.Fence {
			do(h)
		}
	}
}

// begin has the first replica hang while it has mails.
func (c *claims) begin(t *testing.T) {
	eventually(t, soon, "holding mails", func() bool {
		c.hang.shut()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, h := range c.held {
			if h.first && !h.settling {
				return true
			}
		}
		c.hang.open()
		return false
	})
}

// claimMails has three replicas send mails, one of which hangs for longer than its leases last, with mails.
func claimMails(t *testing.T, mails int, wrap func(app.Store) app.Store) (c *claims, duplicates, unexplained int) {
	t.Helper()
	lease := time.Duration(atLength(2, 4)) * time.Second
	c = &claims{given: map[outbox.Lease]bool{}, held: map[string]holding{}, outlived: map[string]bool{}}
	f := startFleet(t, 3, pgtest.Database(t), func(i int, config *app.Config) {
		config.Lease = lease
		config.WrapStore = func(s app.Store) app.Store { return claiming{wrap(s), c, i == 0} }
	})
	inbox := friendly(t)
	f.services[0].addProvider(t, inbox.Addr(), "p")
	var senders sync.WaitGroup
	for n := range 8 {
		senders.Go(func() {
			for i := range mails / 8 {
				s := f.services[(n+i)%len(f.services)]
				_, err := s.Messages.Send(t.Context(), instance.Default, outbox.Draft{To: []string{"r@example.com"}, Text: fmt.Sprint(i)})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	c.begin(t)
	senders.Wait()
	all := func() (list []outbox.Message) {
		list, err := f.services[1].Messages.Store.Messages(t.Context(), instance.Default, outbox.Filter{Limit: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	eventually(t, soon, "delivering all mails beside a replica that hangs", func() bool {
		for _, m := range all() {
			if m.State != outbox.Delivered {
				return false
			}
		}
		return true
	})
	c.hang.open()
	for _, s := range f.services {
		_ = s.stop()
	}
	seen := bodies(inbox)
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, n := range seen {
		duplicates += n - 1
		if !c.outlived[id] {
			unexplained += n - 1
		}
	}
	if len(seen) != mails {
		t.Errorf("%d mails were sent, %d have arrived", mails, len(seen))
	}
	t.Logf("REL claims mails=%d claims=%d twice=%d early=%d leases_outlived=%d duplicates=%d unexplained=%d", mails, c.n, c.twice, c.early,
		len(c.outlived), duplicates, unexplained)
	return c, duplicates, unexplained
}

// TestClaims: of many replicas each mail is one's at a time, and it arrives twice only if that one has hung for
// longer than its lease.
func TestClaims(t *testing.T) {
	t.Parallel()
	c, _, unexplained := claimMails(t, atLength(2000, 10000), func(s app.Store) app.Store { return s })
	if c.twice > 0 || c.early > 0 || unexplained > 0 {
		t.Error("the promise is broken")
	}
	if len(c.outlived) == 0 {
		t.Error("it was hardly looked at: the replica had no mails when it began to hang")
	}
}

// generous is a store that hands out claimed mails once more.
type generous struct {
	app.Store
	mu     *sync.Mutex
	before *outbox.Claim
}

// Claim implements outbox.Queue.
func (g generous) Claim(ctx context.Context, r outbox.ClaimRequest) (outbox.Claim, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if again := *g.before; len(again.Mails) > 0 {
		*g.before = outbox.Claim{}
		return again, nil
	}
	claim, err := g.Store.Claim(ctx, r)
	*g.before = claim
	return claim, err
}

// TestClaimsAreMeasured sees that the test above would notice mails that are two's.
func TestClaimsAreMeasured(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var before outbox.Claim
	c, _, unexplained := claimMails(t, 400, func(s app.Store) app.Store { return generous{s, &mu, &before} })
	if c.twice == 0 || unexplained == 0 {
		t.Error("it was not noticed")
	}
}
