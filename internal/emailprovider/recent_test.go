package emailprovider_test

import (
	"context"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// forgetful is a store that remembers providers as they once were, as one does whose database others
// change too; it counts the times when it is asked how they are.
type forgetful struct {
	emailprovider.Store
	once  map[string]emailprovider.Provider
	asked int
}

func (s *forgetful) Recent(_, id string) (emailprovider.Provider, bool) {
	p, ok := s.once[id]
	return p, ok
}

func (s *forgetful) Provider(ctx context.Context, instance, id string) (emailprovider.Provider, error) {
	s.asked++
	return s.Store.Provider(ctx, instance, id)
}

func (s *forgetful) remember(t *testing.T, id string) {
	t.Helper()
	p, err := s.Store.Provider(t.Context(), by.Instance, id)
	if err != nil {
		t.Fatal(err)
	}
	s.once[id] = p
}

// TestStaleMemory: what is remembered wrongly decides nothing, and what is remembered well spares a look.
func TestStaleMemory(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	store := &forgetful{Store: w.store, once: map[string]emailprovider.Provider{}}
	w.Store = store
	p, err := w.AddSMTP(t.Context(), by, smtp(password("first")))
	if err != nil {
		t.Fatal(err)
	}
	store.remember(t, p.ID)
	step := func(what string, looks int, f func() (emailprovider.Provider, error)) emailprovider.Provider {
		t.Helper()
		store.asked = 0
		got, err := f()
		if err != nil || store.asked != looks {
			t.Errorf("%s: %v after %d looks at the store, want %d", what, err, store.asked, looks)
		}
		return got
	}
	setPassword := func(plain string) func() (emailprovider.Provider, error) {
		return func() (emailprovider.Provider, error) {
			return w.SetPassword(t.Context(), by, p.ID, secret.New(plain))
		}
	}
	first := step("a password, remembered well", 0, setPassword("second"))
	second := step("a password, remembered as before the last one", 1, setPassword("third"))
	if first.Credential.Version != 2 || second.Credential.Version != 3 || second.Sequence != first.Sequence+1 {
		t.Errorf("versions %d and %d, sequences %d and %d", first.Credential.Version, second.Credential.Version, first.Sequence, second.Sequence)
	}

	// Remembered as inactive, which it is no more: to make it inactive is a change after all.
	store.remember(t, p.ID)
	step("activate", 0, func() (emailprovider.Provider, error) { return w.Activate(t.Context(), by, p.ID) })
	inactive := step("deactivate one that is remembered as inactive", 1, func() (emailprovider.Provider, error) {
		return w.Deactivate(t.Context(), by, p.ID)
	})
	if inactive.State != emailprovider.Inactive {
		t.Error("it is active still")
	}

	// Remembered with the old host: the binding of the secret is that of the stored one.
	moved := smtp(password("third"))
	moved.Host = "elsewhere.example.com:587"
	step("move", 1, func() (emailprovider.Provider, error) { return w.UpdateSMTP(t.Context(), by, p.ID, moved) })
	back := smtp(emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain})
	if _, err := w.UpdateSMTP(t.Context(), by, p.ID, back); fault.KindOf(err) != fault.FailedPrecondition {
		t.Errorf("an update back to the host it is remembered at, without the secret: %v, want FailedPrecondition", err)
	}
	if _, err := w.Remove(t.Context(), by, p.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := setPassword("fourth")(); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a password for a removed provider that is remembered: %v, want NotFound", err)
	}
}
