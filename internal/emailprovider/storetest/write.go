package storetest

import (
	"errors"
	"sync"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

func testAtomic(t *testing.T, open Opener) {
	s := open(t, one)
	former := smtp(one, 1)
	former.State = emailprovider.Active
	former = put(t, s, former)
	p := put(t, s, smtp(one, 2))
	// An id is added once, so the event of this change can't be stored, while all that comes before
	// it can: the new sequence, the former provider's state, the provider.
	changed := p
	changed.State, changed.Description = emailprovider.Active, "half"
	_, err := s.Apply(t.Context(), emailprovider.Change{
		Event: event(changed, emailprovider.EventAdded), Expect: p.Sequence, ExpectKey: p.Credential.Sealed.KeyID, Put: &changed,
	})
	if err == nil {
		t.Fatal("a second event of an addition was stored")
	}
	wantProvider(t, s, former)
	wantProvider(t, s, p)
	wantDense(t, s, one, 2)
	_, err = s.Apply(t.Context(), emailprovider.Change{Event: event(p, emailprovider.EventAdded), Expect: p.Sequence})
	if err == nil {
		t.Fatal("a removal was stored as an addition")
	}
	wantProvider(t, s, p)
	wantDense(t, s, one, 2)
}

func testSequence(t *testing.T, open Opener) {
	s := open(t, one)
	wantDense(t, s, one, 0)
	a := put(t, s, smtp(one, 1))
	b := put(t, s, http(one, 2))
	a = put(t, s, a)
	if a.Sequence != 3 || b.Sequence != 2 {
		t.Errorf("sequences %d and %d, want 3 and 2", a.Sequence, b.Sequence)
	}
	sequence, err := remove(s, b)
	if err != nil || sequence != 4 {
		t.Errorf("removal: %d, %v, want 4", sequence, err)
	}
	wantDense(t, s, one, 4)
}

func testConflict(t *testing.T, open Opener) {
	s := open(t, one)
	stale := put(t, s, smtp(one, 1))
	fresh := stale
	fresh.Description = "fresh"
	fresh = put(t, s, fresh)
	refused := func(what string, c emailprovider.Change) {
		t.Helper()
		if _, err := s.Apply(t.Context(), c); !errors.Is(err, emailprovider.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", what, err)
		}
	}
	update := event(stale, emailprovider.EventUpdated)
	removal := event(stale, emailprovider.EventRemoved)
	refused("stale update", emailprovider.Change{Event: update, Expect: stale.Sequence, ExpectKey: stale.Credential.Sealed.KeyID, Put: &stale})
	refused("stale removal", emailprovider.Change{Event: removal, Expect: stale.Sequence})
	refused("update from the future", emailprovider.Change{Event: update, Expect: 1 << 63, ExpectKey: stale.Credential.Sealed.KeyID, Put: &stale})
	wantProvider(t, s, fresh)
	if _, err := remove(s, fresh); err != nil {
		t.Fatal(err)
	}
	refused("update of a removed one", emailprovider.Change{Event: update, Expect: fresh.Sequence, ExpectKey: fresh.Credential.Sealed.KeyID, Put: &fresh})
	refused("removal of a removed one", emailprovider.Change{Event: removal, Expect: fresh.Sequence})
	if _, err := s.Provider(t.Context(), one, fresh.ID); !errors.Is(err, emailprovider.ErrNotFound) {
		t.Errorf("removed provider: %v, want ErrNotFound", err)
	}
	wantDense(t, s, one, 3)
}

func testIDs(t *testing.T, open Opener) {
	s := open(t, one, two)
	p := put(t, s, smtp(one, 1))
	taken := func(when string, p emailprovider.Provider) {
		t.Helper()
		_, err := s.Apply(t.Context(), emailprovider.Change{Event: event(p, emailprovider.EventAdded), Put: &p})
		if !errors.Is(err, emailprovider.ErrIDTaken) {
			t.Errorf("%s: %v, want ErrIDTaken", when, err)
		}
	}
	again := smtp(one, 1)
	again.Description = "again"
	taken("in use", again)
	taken("in use by another instance", smtp(two, 1))
	wantProvider(t, s, p)
	if _, err := remove(s, p); err != nil {
		t.Fatal(err)
	}
	taken("removed", again)
	taken("removed by another instance", smtp(two, 1))
	// The event is what holds an id for ever.
	_, err := s.Apply(t.Context(), emailprovider.Change{Event: event(smtp(one, 2), emailprovider.EventUpdated), Put: new(smtp(one, 2))})
	if err == nil {
		t.Error("a provider was added without the event that says so")
	}
	wantDense(t, s, one, 2)
	wantDense(t, s, two, 0)
}

func testActivate(t *testing.T, open Opener) {
	s := open(t, one)
	former, next := smtp(one, 1), put(t, s, http(one, 2))
	former.State = emailprovider.Active
	former = put(t, s, former)
	next.State, next.Changed = emailprovider.Active, moment(100)
	next = put(t, s, next)
	wantActive(t, s, one, next.ID)
	wantProvider(t, s, next)
	former.State, former.Changed, former.Sequence = emailprovider.Inactive, next.Changed, next.Sequence
	wantProvider(t, s, former)
	// An active one that is changed stays active; a new one may be active at once.
	next.HTTP.Endpoint = "https://elsewhere.example.com"
	next = put(t, s, next)
	wantActive(t, s, one, next.ID)
	wantProvider(t, s, former)
	born := smtp(one, 3)
	born.State = emailprovider.Active
	born = put(t, s, born)
	wantActive(t, s, one, born.ID)
	born.State = emailprovider.Inactive
	put(t, s, born)
	wantActive(t, s, one, "")
	wantDense(t, s, one, 6)
}

// testReadYourWrites reads from many goroutines at once, so that whatever connections or copies a
// store has are all asked.
func testReadYourWrites(t *testing.T, open Opener) {
	s := open(t, one)
	p := put(t, s, smtp(one, 1))
	for n := range 50 {
		p.State, p.Changed = emailprovider.State(n%2), moment(n)
		p = put(t, s, p)
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				if got, err := s.Provider(t.Context(), one, p.ID); err != nil || got.Sequence != p.Sequence {
					t.Errorf("Provider after change %d: sequence %d, %v", p.Sequence, got.Sequence, err)
				}
				if _, err := s.Active(t.Context(), one); (err == nil) != (p.State == emailprovider.Active) {
					t.Errorf("Active after change %d: %v", p.Sequence, err)
				}
				page, err := s.List(t.Context(), one, emailprovider.Query{Limit: 1})
				if err != nil || page.Sequence != p.Sequence || page.Providers[0].Sequence != p.Sequence {
					t.Errorf("List after change %d: %+v, %v", p.Sequence, page, err)
				}
			})
		}
		readers.Wait()
	}
}

const racers = 50

// testConcurrentUpdates counts up the provider's version: an update that is lost is not counted.
func testConcurrentUpdates(t *testing.T, open Opener) {
	s := open(t, one)
	p := put(t, s, smtp(one, 1))
	errs := make([]error, racers)
	var all sync.WaitGroup
	for i := range racers {
		all.Go(func() {
			loaded, err := s.Provider(t.Context(), one, p.ID)
			if err == nil {
				loaded.Credential.Version++
				c := emailprovider.Change{Event: event(loaded, emailprovider.EventUpdated), Expect: loaded.Sequence, ExpectKey: loaded.Credential.Sealed.KeyID, Put: &loaded}
				_, err = s.Apply(t.Context(), c)
			}
			errs[i] = err
		})
	}
	all.Wait()
	applied := 0
	for _, err := range errs {
		switch {
		case err == nil:
			applied++
		case !errors.Is(err, emailprovider.ErrConflict):
			t.Errorf("Apply: %v, want nil or ErrConflict", err)
		}
	}
	if applied == 0 {
		t.Error("every update lost")
	}
	wantDense(t, s, one, 1+applied)
	last, err := s.Provider(t.Context(), one, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "version", last.Credential.Version, p.Credential.Version+uint64(applied))
}

// testConcurrentActivates activates different providers: none of the changes is in the way of
// another, except by taking its state.
func testConcurrentActivates(t *testing.T, open Opener) {
	s := open(t, one)
	for n := range racers {
		put(t, s, smtp(one, n))
	}
	errs := make([]error, racers)
	var all sync.WaitGroup
	for n := range racers {
		all.Go(func() {
			for { // A lost race is decided again, as a service does.
				p, err := s.Provider(t.Context(), one, id(n))
				if err == nil {
					p.State = emailprovider.Active
					c := emailprovider.Change{Event: event(p, emailprovider.EventActivated), Expect: p.Sequence, ExpectKey: p.Credential.Sealed.KeyID, Put: &p}
					_, err = s.Apply(t.Context(), c)
				}
				if !errors.Is(err, emailprovider.ErrConflict) {
					errs[n] = err
					return
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	wantDense(t, s, one, 2*racers)
	last := events(t, s, one)[2*racers-1]
	wantActive(t, s, one, last.ProviderID)
	page, err := s.List(t.Context(), one, emailprovider.Query{Limit: 2 * racers})
	if err != nil {
		t.Fatal(err)
	}
	active := 0
	for _, p := range page.Providers {
		if p.State == emailprovider.Active {
			active++
		}
	}
	wantEqual(t, "active providers", active, 1)
}
