package sqlstore

import (
	"crypto/sha256"
	"errors"
	"sync"
	"testing"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// write runs f as what may change what is kept.
func (c *cache[K, V]) write(f func() error) error {
	c.drop(1)
	defer c.drop(-1)
	return f()
}

// database is what a cache under test reads from.
type database struct {
	value int
	reads int
	err   error
}

func (d *database) read(string) (int, error) { d.reads++; return d.value, d.err }

// want gets the value and says whether it had to be read.
func (d *database) want(t *testing.T, c *cache[string, int], value int, read bool) {
	t.Helper()
	before := d.reads
	got, err := c.get("key", d.read)
	if got != value || !errors.Is(err, d.err) || (d.reads > before) != read {
		t.Errorf("get: %d, %v, read %t; want %d, read %t", got, err, d.reads > before, value, read)
	}
}

func TestCache(t *testing.T) {
	c, d := new(cache[string, int]), &database{value: 1}
	d.want(t, c, 1, true)
	d.want(t, c, 1, false)
	failure := errors.New("not committed")
	err := c.write(func() error {
		d.want(t, c, 1, true)
		d.value = 2
		d.want(t, c, 2, true)
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("write: %v, want what the function returned", err)
	}
	d.want(t, c, 2, true)
	d.want(t, c, 2, false)
}

func TestCacheKeepsNoErrors(t *testing.T) {
	c, d := new(cache[string, int]), &database{err: errors.New("gone")}
	d.want(t, c, 0, true)
	d.want(t, c, 0, true)
}

// TestCacheLateRead has reads that answer with what was true before a write that has begun, or is
// over, by the time they are kept.
func TestCacheLateRead(t *testing.T) {
	none := func() error { return nil }
	for name, meanwhile := range map[string]func(c *cache[string, int]){
		"a whole write":        func(c *cache[string, int]) { _ = c.write(none) },
		"the start of a write": func(c *cache[string, int]) { c.drop(1) },
		"one of two writes":    func(c *cache[string, int]) { c.drop(1); _ = c.write(none) },
	} {
		t.Run(name, func(t *testing.T) {
			c, d := new(cache[string, int]), &database{value: 2}
			_, _ = c.get("key", func(string) (int, error) { meanwhile(c); return 1, nil })
			d.want(t, c, 2, true)
		})
	}
	t.Run("the end of a write", func(t *testing.T) {
		c, d := new(cache[string, int]), &database{value: 2}
		c.drop(1)
		_, _ = c.get("key", func(string) (int, error) { c.drop(-1); return 1, nil })
		d.want(t, c, 2, true)
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := new(cache[int, int])
	for i := range 2*cacheSize + 1 {
		if got, err := c.get(i, func(i int) (int, error) { return -i, nil }); got != -i || err != nil {
			t.Fatalf("get %d: %d, %v", i, got, err)
		}
		if len(c.entries) > cacheSize {
			t.Fatalf("%d entries are kept", len(c.entries))
		}
	}
}

// TestKeptTokens reads tokens before they change, so that they are kept.
func TestKeptTokens(t *testing.T) {
	db := open(t)
	token := auth.Token{Instance: "default", ID: "1", Name: "one", Hash: sha256.Sum256(nil), Roles: []string{"IAM_OWNER"}}
	wantName := func(name string) {
		t.Helper()
		for range 2 {
			got, err := db.TokenByHash(t.Context(), token.Hash)
			if err != nil || got.Name != name || got.Roles[0] != "IAM_OWNER" {
				t.Fatalf("TokenByHash: %+v, %v, want the name %q", got, err, name)
			}
			got.Roles[0] = "changed by a caller"
		}
	}
	for _, name := range []string{"one", "two"} {
		token.Name = name
		if err := db.PutToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		wantName(name)
	}
	if err := db.RevokeToken(t.Context(), token.Instance, token.ID, anyToken); err != nil {
		t.Fatal(err)
	}
	if got, err := db.TokenByHash(t.Context(), token.Hash); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("TokenByHash of a revoked token: %+v, %v", got, err)
	}
}

// TestKeptProviders reads a provider before each kind of write that changes it.
func TestKeptProviders(t *testing.T) {
	db := open(t)
	first, second := addProvider(t, db, 1), addProvider(t, db, 2)
	read := func() emailprovider.Provider {
		t.Helper()
		var p emailprovider.Provider
		for range 2 {
			var err error
			if p, err = db.Provider(t.Context(), first.Instance, first.ID); err != nil {
				t.Fatal(err)
			}
			p.Credential.Sealed.Ciphertext[0]++ // by a caller
		}
		p.Credential.Sealed.Ciphertext[0]--
		return p
	}
	apply := func(c emailprovider.Change) (sequence uint64) {
		t.Helper()
		sequence, err := db.Apply(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return sequence
	}
	wantActive := func(id string, sequence uint64) {
		t.Helper()
		for range 2 {
			got, err := db.Active(t.Context(), first.Instance)
			if got.ID != id || got.Sequence != sequence || id != "" && err != nil || id == "" && !errors.Is(err, emailprovider.ErrNotFound) {
				t.Errorf("the active one is %s at %d, %v; want %q at %d", got.ID, got.Sequence, err, id, sequence)
			}
		}
	}
	wantActive("", 0)
	p := read()
	p.State = emailprovider.Active
	sequence := apply(updated(p))
	if read().Sequence != sequence || read().State != emailprovider.Active {
		t.Errorf("after an update: %+v, want sequence %d", read(), sequence)
	}
	wantActive(p.ID, sequence)
	second.State = emailprovider.Active
	if sequence = apply(updated(second)); read().State != emailprovider.Inactive {
		t.Error("still active after another one was activated")
	}
	wantActive(second.ID, sequence)
	if p, err := db.Provider(t.Context(), first.Instance, ""); !errors.Is(err, emailprovider.ErrNotFound) {
		t.Errorf("Provider without an id: %s, %v", p.ID, err)
	}
	sealed := emailprovider.Sealed{KeyID: 8, Ciphertext: []byte("sealed again")}
	if err := db.Reseal(t.Context(), read(), sealed); err != nil || read().Credential.Sealed.KeyID != 8 {
		t.Errorf("after resealing: %+v, %v", read().Credential, err)
	}
	removal := updated(read())
	removal.Put = nil
	apply(removal)
	if p, err := db.Provider(t.Context(), first.Instance, first.ID); !errors.Is(err, emailprovider.ErrNotFound) {
		t.Errorf("Provider of a removed one: %+v, %v", p, err)
	}
}

// TestReadersNeverGoBack has readers that must see each acknowledged change, and never an earlier
// one after a later.
func TestReadersNeverGoBack(t *testing.T) {
	db := open(t)
	p := addProvider(t, db, 1)
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			var last uint64
			for {
				got, err := db.Provider(t.Context(), p.Instance, p.ID)
				page, listErr := db.List(t.Context(), p.Instance, emailprovider.Query{Limit: 1})
				if err != nil || listErr != nil || got.Sequence < last || page.Sequence < got.Sequence {
					t.Errorf("read sequence %d after %d, then a list of %d (%v, %v)", got.Sequence, last, page.Sequence, err, listErr)
					return
				}
				last = page.Sequence
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 200 {
		sequence, err := db.Apply(t.Context(), updated(p))
		if err != nil {
			t.Fatal(err)
		}
		p.Sequence = sequence
		if got, err := db.Provider(t.Context(), p.Instance, p.ID); err != nil || got.Sequence != sequence {
			t.Fatalf("after change %d a read has %d, %v", sequence, got.Sequence, err)
		}
	}
	close(done)
	readers.Wait()
}
