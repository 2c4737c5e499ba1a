package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/racetest"
)

// handClock is moved by hand.
type handClock struct{ instant }

func (c *handClock) now() instant { return c.instant }

// pass lets time pass by both clocks.
func (c *handClock) pass(d time.Duration) {
	c.monotonic += d
	c.wall += d
}

// clocked are leases with a clock of their own.
func clocked() (*leases, *handClock) {
	l, c := newLeases(), &handClock{instant{monotonic: time.Hour, wall: 1e6 * time.Hour}}
	l.now = c.now
	return l, c
}

func TestLeaseEnds(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*handClock)
		epoch     uint32
		want      bool
	}{
		"at once":                    {func(*handClock) {}, 1, true},
		"before its end":             {func(c *handClock) { c.pass(leaseTerm - 1) }, 1, true},
		"at its end":                 {func(c *handClock) { c.pass(leaseTerm) }, 1, false},
		"the machine has slept":      {func(c *handClock) { c.wall += leaseTerm }, 1, false},
		"the wall clock was stopped": {func(c *handClock) { c.monotonic += leaseTerm }, 1, false},
		"the wall clock was set back": {func(c *handClock) {
			c.pass(leaseTerm / 2)
			c.wall -= leaseTerm
		}, 1, false},
		"the monotonic clock goes back": {func(c *handClock) { c.monotonic-- }, 1, false},
		"another server has taken over": {func(*handClock) {}, 2, false},
		"a former server":               {func(*handClock) {}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, clock := clocked()
			kept := auth.Token{Hash: [32]byte{1}, ID: "1"}
			_, _, begun := l.get(1, kept.Hash)
			l.put(1, kept, begun)
			c.meanwhile(clock)
			if got, ok, now := l.get(c.epoch, kept.Hash); ok != c.want || ok && got.ID != kept.ID || now != clock.instant {
				t.Errorf("get: %+v, %t at %v, want %t", got, ok, now, c.want)
			}
		})
	}
}

// TestLeasesOfEpochs: what was read from a former server is not kept, and drops nothing.
func TestLeasesOfEpochs(t *testing.T) {
	l, clock := clocked()
	wantKept := func(epoch uint32, id byte, want bool) {
		t.Helper()
		if _, ok, _ := l.get(epoch, [32]byte{id}); ok != want {
			t.Errorf("token %d in epoch %d: %t, want %t", id, epoch, ok, want)
		}
	}
	for _, p := range []struct {
		epoch uint32
		id    byte
	}{{1, 1}, {2, 2}, {1, 3}} {
		l.put(p.epoch, auth.Token{Hash: [32]byte{p.id}}, clock.now())
	}
	wantKept(2, 2, true)
	for _, epoch := range []uint32{1, 2} {
		wantKept(epoch, 1, false)
		wantKept(epoch, 3, false)
	}
}

func TestLeasesAreBounded(t *testing.T) {
	l, clock := clocked()
	for i := range 2*mostLeases + 1 {
		var token auth.Token
		binary.BigEndian.PutUint64(token.Hash[:], uint64(i))
		l.put(1, token, clock.now())
		if _, ok, _ := l.get(1, token.Hash); !ok || len(l.tokens) > mostLeases {
			t.Fatalf("token %d is kept: %t, among %d", i, ok, len(l.tokens))
		}
	}
}

// TestLeasesAreOver waits for longer than a term takes by a clock that is a tenth slower.
func TestLeasesAreOver(t *testing.T) {
	l := newLeases()
	before := time.Now()
	l.over()
	if waited := time.Since(before); waited < leaseTerm*11/10 {
		t.Errorf("waited for %v, want more than %v", waited, leaseTerm)
	}
}

// finding counts the queries that look for tokens, and calls during while each is under way.
func finding(db *DB, during func()) (queries *int) {
	p, n := sharedEngine(db), 0
	find := p.tokens.find
	p.tokens.find = func(ctx context.Context, conn *pgx.Conn, hashes [][32]byte) (map[[32]byte]auth.Token, error) {
		n++
		found, err := find(ctx, conn, hashes)
		during()
		return found, err
	}
	return &n
}

// TestTokensFromMemory: within a term there is one query for a token, and no allocation but of its roles. The term
// begins before the query does, however long that takes.
func TestTokensFromMemory(t *testing.T) {
	db := openPostgres(t)
	l, clock := clocked()
	sharedEngine(db).leases = l
	token := auth.Token{Instance: "default", ID: "1", Name: "n", Hash: sha256.Sum256(nil), Roles: []string{"IAM_OWNER"}}
	must(t, db.PutToken(t.Context(), token))
	var takes time.Duration
	queries := finding(db, func() { clock.pass(takes) })
	use := func() {
		got, err := db.TokenByHash(t.Context(), token.Hash)
		if err != nil || got.ID != token.ID || got.Roles[0] != "IAM_OWNER" {
			t.Errorf("TokenByHash: %+v, %v", got, err)
		}
		got.Roles[0] = "changed by a caller"
	}
	wantQueries := func(when string, want int) {
		t.Helper()
		*queries = 0
		allocations := testing.AllocsPerRun(100, use)
		if *queries != want {
			t.Errorf("%s: %d queries, want %d", when, *queries, want)
		}
		if want == 0 && racetest.Slower == 1 && allocations > 1 {
			t.Errorf("%s: %v allocations, want one for the roles", when, allocations)
		}
	}
	wantQueries("at first", 1)
	wantQueries("within the term", 0)
	clock.pass(leaseTerm)
	takes = leaseTerm - 1
	wantQueries("with a slow query", 1)
	clock.pass(1)
	takes = leaseTerm
	wantQueries("with queries that take a term", 101) // AllocsPerRun makes one more

	takes = 0
	*queries = 0
	for range 2 {
		if _, err := db.TokenByHash(t.Context(), [32]byte{}); !errors.Is(err, auth.ErrNotFound) {
			t.Errorf("TokenByHash of none: %v", err)
		}
	}
	if *queries != 2 {
		t.Errorf("%d queries for a token that does not exist, want one for each call", *queries)
	}
}
