package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// Shared is a store that several processes may use.
type Shared interface {
	Store
	outbox.Others
}

// RunOthers holds the stores that open returns to the contract of outbox.Others.
func RunOthers(t *testing.T, open func(t *testing.T, instances ...string) Shared) {
	t.Run("Changes", func(t *testing.T) { testChanges(t, open(t, one, two)) })
}

// look returns what has changed since the mark, which becomes that of now.
func look(t *testing.T, s Shared, mark *outbox.Mark, instances ...string) []outbox.Message {
	t.Helper()
	changed, now, err := s.Changes(t.Context(), instances, *mark, 100)
	if err != nil {
		t.Fatalf("Changes: %v", err)
	}
	*mark = now
	slices.SortFunc(changed, func(a, b outbox.Message) int { return strings.Compare(a.ID, b.ID) })
	return changed
}

func testChanges(t *testing.T, s Shared) {
	activate(t, s, one, 1)
	accept(t, s, plain(one, 0))
	var mark outbox.Mark
	wantEqual(t, "mails without a mark", len(look(t, s, &mark, one)), 0)
	wantEqual(t, "mails when nothing has changed", len(look(t, s, &mark, one)), 0)
	want := func(what string, want ...outbox.Message) {
		t.Helper()
		for i := range want {
			kept, err := s.Message(t.Context(), one, want[i].ID)
			if err != nil {
				t.Fatal(err)
			}
			want[i] = kept
		}
		before := mark
		changed := look(t, s, &mark, one)
		wantEqual(t, what, changed, want)
		for i, m := range changed {
			if m.Version != want[i].Version {
				t.Errorf("%s: version %d, want %d", what, m.Version, want[i].Version)
			}
		}
		wantEqual(t, what+", asked again", look(t, s, &before, one), want)
		wantEqual(t, what+": mails changed after that", len(look(t, s, &mark, one)), 0)
	}
	m, other := accept(t, s, mail(one, 1)), accept(t, s, plain(one, 500))
	accept(t, s, plain(two, 1))
	want("Accept", m, other)
	first := claim(t, s, one, 1, 1).Mails[0] // the one from before
	want("Claim", first.Message)
	if _, err := s.Extend(t.Context(), []outbox.Lease{first.Lease()}, moment(99)); err != nil {
		t.Fatal(err)
	}
	want("Extend")
	settle(t, s, settlementsOf([]outbox.ClaimedMail{first}, outbox.Delivered, 2)...)
	c := claimOne(t, s, one, 3)
	settlements := settlementsOf([]outbox.ClaimedMail{c}, outbox.Failed, 4)
	settlements[0].Keep = true
	settle(t, s, settlements...)
	want("Settle", first.Message, m)
	stale := settlementsOf([]outbox.ClaimedMail{c, first}, outbox.Queued, 5)
	if refused, err := s.Settle(t.Context(), stale); err != nil || len(refused) != 2 {
		t.Fatalf("%v refused, %v", refused, err)
	}
	want("refused settlements")
	for _, change := range []func() error{
		func() error { return second(s.Requeue(t.Context(), one, m.ID, moment(6), moment(100))) },
		func() error { return second(s.Requeue(t.Context(), one, m.ID, moment(7), moment(100))) },
		func() error { return second(s.Expire(t.Context(), one, moment(101), 9, true)) },
		func() error { return second(s.Requeue(t.Context(), one, m.ID, moment(102), moment(200))) },
		func() error { return second(s.Cancel(t.Context(), one, m.ID, moment(103), true)) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		want("a change of a waiting mail", m)
	}
	wantEqual(t, "of both instances", len(look(t, s, &mark, two)), 0)
	accept(t, s, plain(one, 2))
	accept(t, s, plain(two, 2))
	changed, now, err := s.Changes(t.Context(), []string{one, two}, mark, 1)
	if !errors.Is(err, outbox.ErrMark) || len(changed) > 0 {
		t.Errorf("more than the limit: %d mails, %v, want ErrMark", len(changed), err)
	}
	accept(t, s, plain(two, 3))
	wantEqual(t, "since then", len(look(t, s, &now, one, two)), 1)
}
