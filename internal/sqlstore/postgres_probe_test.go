package sqlstore

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// unlocked is a database whose claims don't hold the breaker.
type unlocked struct{ *postgresEngine }

func (u unlocked) write(ctx context.Context, w write) error {
	do := w.do
	w.do = func(l *line) error { return do(&line{executor: unlockedLine{l.executor}}) }
	return u.postgresEngine.write(ctx, w)
}

type unlockedLine struct{ executor }

func (l unlockedLine) each(query string, args []any, f func(scanner) (more bool, err error)) error {
	if query == selectBreaker {
		query = strings.ReplaceAll(query, "/*pg FOR UPDATE */", "")
	}
	return l.executor.each(query, args, f)
}

// probes has three replicas claim at the same moments, at each of which the breaker lets one mail through. It
// returns how many mails were claimed in so many rounds.
func probes(t *testing.T, rounds int, claim func(*postgresEngine, outbox.ClaimRequest) (outbox.Claim, error)) int64 {
	t.Helper()
	url := pgtest.Database(t)
	var replicas []*DB
	for range 3 {
		replicas = append(replicas, openURL(t, url, Options{}))
	}
	db := replicas[0]
	p := activeProvider(t, db)
	for range 10 * rounds {
		acceptMail(t, db, "content")
	}
	c, err := db.Claim(t.Context(), outbox.ClaimRequest{Instance: "default", Now: start, Until: start.Add(time.Minute), Limit: 1})
	if err != nil || len(c.Mails) != 1 {
		t.Fatalf("%d mails, %v", len(c.Mails), err)
	}
	refused := &outbox.Attempt{ProviderID: p.ID, CredentialVersion: p.Credential.Version, Started: start, Ended: start, Step: emailprovider.StepAuth, Code: 535}
	must(t, second(db.Settle(t.Context(), []outbox.Settlement{{
		Lease: c.Mails[0].Lease(), At: start, State: outbox.Queued, Due: start, Attempt: refused, CredentialRefused: true,
	}})))
	var claimed atomic.Int64
	for round := range rounds {
		now := start.Add(time.Duration(round+1) * time.Minute)
		var all sync.WaitGroup
		for i := range 4 * len(replicas) {
			all.Go(func() {
				c, err := claim(sharedEngine(replicas[i%len(replicas)]), outbox.ClaimRequest{
					Instance: "default", Now: now, Until: now.Add(time.Hour), Limit: 5, ProbeAfter: time.Minute,
				})
				if err != nil {
					t.Error(err)
				}
				claimed.Add(int64(len(c.Mails)))
			})
		}
		all.Wait()
	}
	return claimed.Load()
}

// TestProbesOfReplicas: one mail tries whether a refused credential works again, over all replicas.
func TestProbesOfReplicas(t *testing.T) {
	const rounds = 20
	n := probes(t, rounds, func(p *postgresEngine, r outbox.ClaimRequest) (outbox.Claim, error) { return p.claim(t.Context(), r) })
	if n != rounds {
		t.Errorf("%d mails were let through in %d rounds", n, rounds)
	}
	careless := probes(t, rounds, func(p *postgresEngine, r outbox.ClaimRequest) (outbox.Claim, error) {
		return claimLocked(t.Context(), unlocked{p}, r)
	})
	t.Logf("REL probes_of_replicas replicas=3 rounds=%d let_through=%d without_lock=%d", rounds, n, careless)
	if careless <= rounds {
		t.Error("a breaker that is not held by who claims is not noticed")
	}
}
