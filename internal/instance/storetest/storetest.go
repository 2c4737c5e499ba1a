// Package storetest is the contract of instance.Store as a test suite.
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
)

// Store is what the suite needs, besides the contract itself, to see what an instance has.
type Store interface {
	instance.Store
	auth.Store
	InstanceKeys(ctx context.Context, id string) ([]instance.Key, error)
	AddInstanceKey(ctx context.Context, k instance.Key) error
}

// Run holds the stores that open returns to the contract. A fresh one has the default instance.
func Run(t *testing.T, open func(t *testing.T) Store) {
	t.Run("Add", func(t *testing.T) { testAdd(t, open(t)) })
	t.Run("Domains", func(t *testing.T) { testDomains(t, open(t)) })
	t.Run("Revision", func(t *testing.T) { testRevision(t, open(t)) })
	t.Run("Keys", func(t *testing.T) { testKeys(t, open(t)) })
	t.Run("Update", func(t *testing.T) { testUpdate(t, open(t)) })
	t.Run("Remove", func(t *testing.T) { testRemove(t, open(t)) })
}

var made = time.Date(2030, 1, 1, 0, 0, 0, 1000, time.UTC)

// fresh is an instance with all that it can have.
func fresh(id string, domains ...string) instance.New {
	return instance.New{
		Instance: instance.Instance{
			ID: id, Name: "Name of " + id, Domains: domains, Created: made,
			Policy: instance.Policy{
				SenderDomains: []string{"a.example", "b.example"},
				Limits:        instance.Limits{CallsPerSecond: 1, OpenMails: 2, Providers: 3, Tokens: 4294967295},
			},
		},
		Key: key(id, 1<<31, made),
		Owner: auth.Token{
			Instance: id, ID: "admin", Name: "admin", Hash: sha256.Sum256([]byte(id)), Roles: []string{"IAM_OWNER"}, Created: made,
		},
	}
}

func key(id string, number uint32, created time.Time) instance.Key {
	return instance.Key{
		Instance: id, ID: number, Created: created,
		Wrapped: emailprovider.Sealed{KeyID: 7, Ciphertext: []byte("wrapped\x00" + id)},
	}
}

func create(t *testing.T, s Store, n instance.New) {
	t.Helper()
	if err := s.CreateInstance(t.Context(), n); err != nil {
		t.Fatalf("CreateInstance %s: %v", n.ID, err)
	}
}

// list returns the instances besides the default one.
func list(t *testing.T, s Store) []instance.Instance {
	t.Helper()
	all, _, err := s.Instances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var others []instance.Instance
	for _, in := range all {
		if in.ID != instance.Default {
			others = append(others, in)
		}
	}
	if len(others) != len(all)-1 {
		t.Errorf("%d of %d instances are the default one", len(all)-len(others), len(all))
	}
	return others
}

func wantList(t *testing.T, s Store, want ...instance.Instance) {
	t.Helper()
	if diff := cmp.Diff(want, list(t, s), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func testAdd(t *testing.T, s Store) {
	b, a := fresh("b", "1.b.example", "2.b.example"), fresh("a")
	create(t, s, b)
	create(t, s, a)
	wantList(t, s, a.Instance, b.Instance)
	wantError(t, "an id that is in use", s.CreateInstance(t.Context(), fresh("b", "other.example")), instance.ErrExists)
	wantError(t, "default", s.CreateInstance(t.Context(), fresh(instance.Default)), instance.ErrExists)
	wantList(t, s, a.Instance, b.Instance)
	for _, n := range []instance.New{a, b} {
		keys, err := s.InstanceKeys(t.Context(), n.ID)
		if diff := cmp.Diff([]instance.Key{n.Key}, keys); diff != "" || err != nil {
			t.Errorf("keys of %s: %v (-want +got):\n%s", n.ID, err, diff)
		}
		token, err := s.TokenByHash(t.Context(), n.Owner.Hash)
		if diff := cmp.Diff(n.Owner, token); diff != "" || err != nil {
			t.Errorf("the token of %s: %v (-want +got):\n%s", n.ID, err, diff)
		}
	}
}

func testDomains(t *testing.T, s Store) {
	a := fresh("a", "a.example")
	create(t, s, a)
	wantError(t, "another's domain", s.CreateInstance(t.Context(), fresh("b", "b.example", "a.example")), instance.ErrDomainTaken)
	wantList(t, s, a.Instance)
	b := fresh("b", "b.example")
	create(t, s, b)
	take := func(in *instance.Instance) error { in.Domains = []string{"c.example", "a.example"}; return nil }
	wantError(t, "another's domain in an update", s.UpdateInstance(t.Context(), "b", take), instance.ErrDomainTaken)
	wantList(t, s, a.Instance, b.Instance)
	if err := s.UpdateInstance(t.Context(), "a", func(in *instance.Instance) error { in.Domains = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateInstance(t.Context(), "b", take); err != nil {
		t.Errorf("a domain that was given back: %v", err)
	}
	a.Domains, b.Domains = nil, []string{"a.example", "c.example"}
	wantList(t, s, a.Instance, b.Instance)
}

func testRevision(t *testing.T, s Store) {
	seen := map[uint64]string{}
	changed := func(what string, err error) {
		t.Helper()
		_, listed, err2 := s.Instances(t.Context())
		revision, err3 := s.InstancesRevision(t.Context())
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if before, ok := seen[revision]; ok || listed != revision {
			t.Errorf("after %s the revision is %d and %d, as after %s", what, revision, listed, before)
		}
		seen[revision] = what
	}
	changed("nothing", nil)
	changed("CreateInstance", s.CreateInstance(t.Context(), fresh("a")))
	changed("UpdateInstance", s.UpdateInstance(t.Context(), "a", func(in *instance.Instance) error { in.Name = "x"; return nil }))
	changed("AddInstanceKey", s.AddInstanceKey(t.Context(), key("a", 2, made.Add(time.Second))))
	changed("RemoveInstance", s.RemoveInstance(t.Context(), "a", "me"))
}

func testKeys(t *testing.T, s Store) {
	create(t, s, fresh("a"))
	create(t, s, fresh("b"))
	for number, created := range map[uint32]time.Time{2: made.Add(time.Second), 3: made.Add(-time.Hour), 4: made} {
		if err := s.AddInstanceKey(t.Context(), key("a", number, created)); err != nil {
			t.Fatal(err)
		}
		keys, err := s.InstanceKeys(t.Context(), "a")
		if err != nil || keys[0].ID != number || string(keys[0].Wrapped.Ciphertext) != "wrapped\x00a" {
			t.Errorf("the key that was added last is not the first: %v, %v", keys, err)
		}
	}
	if keys, err := s.InstanceKeys(t.Context(), "b"); err != nil || len(keys) != 1 {
		t.Errorf("the other instance has %v, %v", keys, err)
	}
	wantError(t, "a key of nobody", s.AddInstanceKey(t.Context(), key("c", 1, made)), instance.ErrNotFound)
}

func testUpdate(t *testing.T, s Store) {
	a, b := fresh("a", "a.example"), fresh("b", "b.example")
	create(t, s, a)
	create(t, s, b)
	a.Name, a.Domains, a.Policy = "n", []string{"x.example"}, instance.Policy{Limits: instance.Limits{Tokens: 9}}
	err := s.UpdateInstance(t.Context(), "a", func(in *instance.Instance) error {
		in.Name, in.Domains, in.Policy = a.Name, a.Domains, a.Policy
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantList(t, s, a.Instance, b.Instance)
	refused := errors.New("refused")
	wantError(t, "a change that is refused", s.UpdateInstance(t.Context(), "a", func(in *instance.Instance) error {
		in.Name = "never"
		return refused
	}), refused)
	never := func(*instance.Instance) error { t.Error("a change of nothing"); return nil }
	wantError(t, "an unknown one", s.UpdateInstance(t.Context(), "c", never), instance.ErrNotFound)
	wantList(t, s, a.Instance, b.Instance)
}

func testRemove(t *testing.T, s Store) {
	a, b := fresh("a", "a.example"), fresh("b", "b.example")
	create(t, s, a)
	create(t, s, b)
	if _, err := s.TokenByHash(t.Context(), a.Owner.Hash); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveInstance(t.Context(), "a", "somebody"); err != nil {
		t.Fatal(err)
	}
	gone := func() {
		t.Helper()
		wantList(t, s, b.Instance)
		if keys, err := s.InstanceKeys(t.Context(), "a"); len(keys) > 0 || err != nil {
			t.Errorf("%d keys of a removed instance, %v", len(keys), err)
		}
		_, err := s.TokenByHash(t.Context(), a.Owner.Hash)
		wantError(t, "a token of a removed instance", err, auth.ErrNotFound)
		late := a.Owner
		late.ID, late.Hash = "late", [32]byte{1}
		if err := s.PutToken(t.Context(), late); fault.KindOf(err) != fault.NotFound {
			t.Errorf("a removed instance gets a token: %v", err)
		}
		wantError(t, "RemoveInstance again", s.RemoveInstance(t.Context(), "a", "me"), instance.ErrNotFound)
		wantError(t, "UpdateInstance", s.UpdateInstance(t.Context(), "a", func(*instance.Instance) error { return nil }), instance.ErrNotFound)
		wantError(t, "AddInstanceKey", s.AddInstanceKey(t.Context(), key("a", 9, made)), instance.ErrNotFound)
		wantError(t, "its id", s.CreateInstance(t.Context(), fresh("a")), instance.ErrExists)
		removed, err := s.RemovedInstances(t.Context())
		if err != nil || len(removed) != 1 || removed[0].Removed.IsZero() {
			t.Fatalf("removed: %v, %v", removed, err)
		}
		removed[0].Removed = time.Time{}
		if diff := cmp.Diff(instance.Removed{ID: "a", Name: a.Name, Created: made, By: "somebody"}, removed[0]); diff != "" {
			t.Errorf("what is left (-want +got):\n%s", diff)
		}
	}
	gone()
	for range 2 { // and again, with nothing to do
		if err := s.FinishRemovals(t.Context()); err != nil {
			t.Fatal(err)
		}
		gone()
	}
	c := fresh("c", "a.example")
	create(t, s, c)
	wantList(t, s, b.Instance, c.Instance)
}
