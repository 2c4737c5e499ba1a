package storetest

import (
	"errors"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// StoreVault is a store that keys can be rotated in.
type StoreVault interface {
	emailprovider.Store
	emailprovider.Vault
}

// RunVault holds the stores that open returns to the contract of emailprovider.Vault, which is about
// present credentials: the previous ones of these providers are sealed with a key that it must not
// show.
func RunVault(t *testing.T, open func(t *testing.T, instances ...string) StoreVault) {
	t.Run("Vault", func(t *testing.T) {
		t.Run("SealedBy", func(t *testing.T) { testSealedBy(t, open(t, one, two)) })
		t.Run("Reseal", func(t *testing.T) { testReseal(t, open(t, one)) })
		t.Run("Resealed", func(t *testing.T) { testResealed(t, open(t, one)) })
	})
}

func sealedWith(p emailprovider.Provider, key uint32) emailprovider.Provider {
	p.Credential.Sealed.KeyID = key
	return p
}

func testSealedBy(t *testing.T, s StoreVault) {
	wantKeys(t, s)
	const old, recent = 9, 1<<32 - 1
	b2 := put(t, s, sealedWith(smtp(two, 2), old))
	a3 := put(t, s, sealedWith(smtp(one, 3), old))
	a1 := put(t, s, sealedWith(smtp(one, 1), old))
	put(t, s, sealedWith(smtp(one, 4), recent))
	put(t, s, sealedWith(smtp(two, 5), 7))
	put(t, s, http(one, 6))
	wantKeys(t, s, 7, old, recent)

	for _, c := range []struct {
		name         string
		instance, id string
		limit        int
		want         []emailprovider.Provider
	}{
		{"all", "", "", 9, []emailprovider.Provider{a1, a3, b2}},
		{"two", "", "", 2, []emailprovider.Provider{a1, a3}},
		{"after the first", one, a1.ID, 9, []emailprovider.Provider{a3, b2}},
		{"after the first instance", one, a3.ID, 9, []emailprovider.Provider{b2}},
		{"after the last", two, b2.ID, 9, nil},
	} {
		got, err := s.SealedBy(t.Context(), old, c.instance, c.id, c.limit)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		wantEqual(t, c.name, got, c.want)
	}
	if _, err := remove(s, b2); err != nil {
		t.Fatal(err)
	}
	a1.Credential.Sealed = emailprovider.Sealed{}
	put(t, s, a1)
	got, err := s.SealedBy(t.Context(), old, "", "", 9)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "after a removal and a clearing", got, []emailprovider.Provider{a3})
}

// testResealed has a change that was decided before a Reseal: it must not bring the old ciphertext
// back.
func testResealed(t *testing.T, s StoreVault) {
	p := put(t, s, sealedWith(smtp(one, 1), 7))
	sealed := emailprovider.Sealed{KeyID: 8, Ciphertext: []byte("other")}
	if err := s.Reseal(t.Context(), p, sealed); err != nil {
		t.Fatal(err)
	}
	late := emailprovider.Change{
		Event: event(p, emailprovider.EventUpdated), Expect: p.Sequence, ExpectKey: 7, Put: &p,
	}
	if _, err := s.Apply(t.Context(), late); !errors.Is(err, emailprovider.ErrConflict) {
		t.Errorf("Apply with the old ciphertext: %v, want ErrConflict", err)
	}
	wantKeys(t, s, 8)
}

func testReseal(t *testing.T, s StoreVault) {
	p := put(t, s, sealedWith(smtp(one, 1), 7))
	sealed := emailprovider.Sealed{KeyID: 8, Ciphertext: []byte("other")}
	if err := s.Reseal(t.Context(), p, sealed); err != nil {
		t.Fatal(err)
	}
	if err := s.Reseal(t.Context(), p, emailprovider.Sealed{KeyID: 9, Ciphertext: []byte("late")}); !errors.Is(err, emailprovider.ErrConflict) {
		t.Errorf("Reseal of a stale ciphertext: %v, want ErrConflict", err)
	}
	p.Credential.Sealed = sealed
	wantProvider(t, s, p) // with the same sequence
	wantDense(t, s, one, 1)
	wantKeys(t, s, 8)
	if _, err := remove(s, p); err != nil {
		t.Fatal(err)
	}
	if err := s.Reseal(t.Context(), p, sealed); !errors.Is(err, emailprovider.ErrConflict) {
		t.Errorf("Reseal of a removed provider: %v, want ErrConflict", err)
	}
	wantKeys(t, s)
}

func wantKeys(t *testing.T, s StoreVault, want ...uint32) {
	t.Helper()
	got, err := s.KeysInUse(t.Context())
	if err != nil {
		t.Fatalf("KeysInUse: %v", err)
	}
	wantEqual(t, "KeysInUse", got, want)
}
