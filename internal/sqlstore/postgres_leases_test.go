package sqlstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// takings are the ways to take a token away, or what it may do. Each has an instance to itself.
var takings = map[string]func(context.Context, *DB, auth.Token) error{
	"revoked": func(ctx context.Context, db *DB, token auth.Token) error {
		return db.RevokeToken(ctx, token.Instance, token.ID, anyToken)
	},
	"replaced": func(ctx context.Context, db *DB, token auth.Token) error {
		token.Hash = sha256.Sum256(token.Hash[:])
		return db.PutToken(ctx, token)
	},
	"with other roles": func(ctx context.Context, db *DB, token auth.Token) error {
		token.Roles = []string{"IAM_LOGIN_CLIENT"}
		return db.PutToken(ctx, token)
	},
	"of a removed instance": func(ctx context.Context, db *DB, token auth.Token) error {
		return db.RemoveInstance(ctx, token.Instance, "me")
	},
}

// taken has two stores use tokens without pause while one of them takes these away.
type taken struct {
	t    *testing.T
	dbs  [2]*DB
	each int // rounds of each taking, at a time

	rounds int
	uses   atomic.Int64
	stale  atomic.Int64 // that took what was taken away, once that was acknowledged
}

func newTaken(t *testing.T, each int) *taken {
	url := pgtest.Database(t)
	return &taken{t: t, each: each, dbs: [2]*DB{openURL(t, url, Options{}), openURL(t, url, Options{})}}
}

// run makes so many rounds one after the other; whoever takes a token away waits so long.
func (k *taken) run(rounds int, wait time.Duration) (stale int64) {
	for _, db := range k.dbs {
		sharedEngine(db).leases.wait = func(time.Duration) { time.Sleep(wait) }
	}
	k.uses.Store(0)
	k.stale.Store(0)
	for range rounds {
		var all sync.WaitGroup
		for _, take := range takings {
			for range k.each {
				k.rounds++
				n := k.rounds
				all.Go(func() { k.round(n, take) })
			}
		}
		all.Wait()
	}
	return k.stale.Load()
}

func (k *taken) round(n int, take func(context.Context, *DB, auth.Token) error) {
	id := fmt.Sprint("i", n)
	token := auth.Token{Instance: id, ID: "1", Name: "n", Hash: sha256.Sum256([]byte(id)), Roles: []string{"IAM_OWNER"}}
	if err := errors.Join(k.dbs[0].AddInstance(k.t.Context(), id), k.dbs[0].PutToken(k.t.Context(), token)); err != nil {
		k.t.Error(err)
		return
	}
	var (
		users, used sync.WaitGroup
		gone        atomic.Bool
	)
	for _, db := range k.dbs {
		used.Add(1)
		users.Go(func() { k.use(db, token, used.Done, &gone) })
	}
	used.Wait()
	if err := take(k.t.Context(), k.dbs[n%2], token); err != nil {
		k.t.Error(err)
	}
	gone.Store(true)
	users.Wait()
}

// use uses a token for a while after it is gone. It calls used once it has.
func (k *taken) use(db *DB, token auth.Token, used func(), gone *atomic.Bool) {
	used = sync.OnceFunc(used)
	defer used()
	const afterwards = 100
	for late := 0; late < afterwards; {
		over := gone.Load()
		got, err := db.TokenByHash(k.t.Context(), token.Hash)
		k.uses.Add(1)
		if err != nil && !errors.Is(err, auth.ErrNotFound) {
			k.t.Error(err)
			return
		}
		if err == nil {
			used()
		}
		if !over {
			continue
		}
		late++
		if err == nil && slices.Equal(got.Roles, token.Roles) {
			k.stale.Add(1)
			return
		}
	}
}

// TestTakenTokens: once it is acknowledged that a token was taken away or changed, nobody uses what it was. Who
// does not wait for the others' leases, or not long enough, is caught.
func TestTakenTokens(t *testing.T) {
	k, times := newTaken(t, 3), 3
	if os.Getenv("MAILKEEP_PROVE") != "" { // task prove
		times = 100
	}
	stale := k.run(times, leasesOver)
	rounds, uses := k.rounds, k.uses.Load()
	without, quarter := k.run(1, 0), k.run(2, leaseTerm/4)
	t.Logf("REL leases rounds=%d uses=%d stale=%d stale_without_waiting=%d stale_with_a_quarter=%d", rounds, uses, stale, without, quarter)
	if stale > 0 {
		t.Errorf("%d times a token that was gone was used", stale)
	}
	if without == 0 || quarter == 0 {
		t.Errorf("red control: %d stale uses are noticed without waiting, %d after a quarter of a term", without, quarter)
	}
}

// TestWhoWaitsForLeases: who takes something away, as long as it takes and whatever becomes of the caller meanwhile;
// not who adds or repeats.
func TestWhoWaitsForLeases(t *testing.T) {
	db := openPostgres(t, "i")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waited time.Duration
	sharedEngine(db).leases.wait = func(d time.Duration) { waited += d; cancel() }
	token := auth.Token{Instance: "i", ID: "1", Name: "n", Hash: [32]byte{1}, Roles: []string{"IAM_OWNER"}, Created: start, Expires: start}
	refused := errors.New("refused")
	put := func(change func(*auth.Token)) func() error {
		return func() error {
			change(&token)
			return db.PutToken(ctx, token)
		}
	}
	for _, c := range []struct {
		name  string
		do    func() error
		waits bool
		err   error
	}{
		{"added", put(func(*auth.Token) {}), false, nil},
		{"repeated", put(func(t *auth.Token) { t.Created = start.Add(time.Second) }), false, nil},
		{"another name", put(func(t *auth.Token) { t.Name = "m" }), true, nil},
		{"another hash", put(func(t *auth.Token) { t.Hash = [32]byte{2} }), true, nil},
		{"other roles", put(func(t *auth.Token) { t.Roles = nil }), true, nil},
		{"another end", put(func(t *auth.Token) { t.Expires = time.Time{} }), true, nil},
		{"another token", put(func(t *auth.Token) { t.ID, t.Hash = "2", [32]byte{3} }), false, nil},
		{"refused", func() error { return db.RevokeToken(ctx, "i", "2", func(auth.Token) error { return refused }) }, false, refused},
		{"revoked", func() error { return db.RevokeToken(ctx, "i", "2", anyToken) }, true, nil},
		{"revoked again", func() error { return db.RevokeToken(ctx, "i", "2", anyToken) }, true, auth.ErrNotFound},
		{"put again", put(func(*auth.Token) {}), false, auth.ErrRevoked},
		{"removed", func() error { return db.RemoveInstance(ctx, "i", "me") }, true, nil},
		{"removed again", func() error { return db.RemoveInstance(ctx, "i", "me") }, true, instance.ErrNotFound},
	} {
		ctx, cancel = context.WithCancel(t.Context())
		waited = 0
		if err := c.do(); !errors.Is(err, c.err) || (waited == leasesOver) != c.waits || !c.waits && waited > 0 {
			t.Errorf("%s: %v, after %v", c.name, err, waited)
		}
		cancel()
	}
}

// TestNoLeaseOutlivesItsServer: what one server has said is not used any more when another has taken over.
func TestNoLeaseOutlivesItsServer(t *testing.T) {
	db := openPostgres(t)
	p := sharedEngine(db)
	l, _ := clocked()
	p.leases = l
	token := auth.Token{Instance: "default", ID: "1", Hash: [32]byte{1}}
	must(t, db.PutToken(t.Context(), token))
	for range 2 {
		if _, err := db.TokenByHash(t.Context(), token.Hash); err != nil {
			t.Error(err)
		}
	}
	must(t, p.fence.note(identity{system: p.fence.system, timeline: p.epoch() + 1}))
	if got, err := db.TokenByHash(t.Context(), token.Hash); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("TokenByHash without the new server: %+v, %v", got, err)
	}
}
