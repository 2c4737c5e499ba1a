package storetest

import (
	"testing"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// testVersions takes a mail through every change.
func testVersions(t *testing.T, open Opener) {
	s := open(t, one)
	activate(t, s, one, 1)
	m := accept(t, s, mail(one, 0))
	last := m.Version
	wantVersion := func(what string, higher bool, version uint64) {
		t.Helper()
		kept, err := s.Message(t.Context(), one, m.ID)
		if err != nil {
			t.Fatal(err)
		}
		if kept.Version != version || higher != (version > last) {
			t.Errorf("%s: version %d, stored is %d, was %d", what, version, kept.Version, last)
		}
		last = version
	}
	changed := func(what string, m outbox.Message, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		wantVersion(what, true, m.Version)
	}
	settled := func(c outbox.ClaimedMail, state outbox.State, n int) {
		t.Helper()
		settlement := settlementsOf([]outbox.ClaimedMail{c}, state, n)
		settlement[0].Keep = true
		settle(t, s, settlement...)
		wantVersion("settled as "+string(state), true, c.Version+1)
	}
	wantVersion("Accept", false, m.Version)
	requeue := func(n int) {
		t.Helper()
		m, err := s.Requeue(t.Context(), one, m.ID, moment(n), moment(n+100))
		changed("Requeue", m, err)
	}
	requeue(1)
	for n, end := range []outbox.State{outbox.Queued, outbox.Failed, outbox.Expired} {
		c := claimOne(t, s, one, 10*n+10)
		changed("Claim", c.Message, nil)
		if lost, err := s.Extend(t.Context(), []outbox.Lease{c.Lease()}, moment(10*n+15)); err != nil || len(lost) > 0 {
			t.Fatalf("Extend: %v, %v", lost, err)
		}
		wantVersion("Extend", false, c.Version)
		settled(c, end, 10*n+16)
		requeue(10*n + 17)
	}
	expired, err := s.Expire(t.Context(), one, moment(1000), 9, true)
	if err != nil || len(expired) != 1 {
		t.Fatalf("Expire: %v, %v", expired, err)
	}
	changed("Expire", expired[0], nil)
	requeue(1001)
	cancelled, err := s.Cancel(t.Context(), one, m.ID, moment(1002), true)
	changed("Cancel", cancelled, err)
	if cancelled, err = s.Cancel(t.Context(), one, m.ID, moment(1003), true); err != nil {
		t.Fatal(err)
	}
	wantVersion("Cancel again", false, cancelled.Version)
}
