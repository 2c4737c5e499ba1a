package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

func testAccept(t *testing.T, open Opener) {
	s := open(t, one)
	later := mail(one, 2)
	later.Due = moment(70)
	for _, m := range []outbox.Message{mail(one, 1), later, plain(one, 3), plain(one, 3)} {
		wantEqual(t, "Accept", accept(t, s, m), m)
		wantMessage(t, s, m)
		content, err := s.Content(t.Context(), one, m.ID)
		if err != nil {
			t.Fatalf("Content: %v", err)
		}
		wantEqual(t, "Content", content, contentOf(m))
		attempts, err := s.Attempts(t.Context(), one, m.ID)
		if err != nil || len(attempts) > 0 {
			t.Errorf("Attempts of a new mail: %v, %v", attempts, err)
		}
	}
	for _, unknown := range []string{outbox.NewID(moment(1)), "", "' OR 1=1 --"} {
		if _, err := s.Message(t.Context(), one, unknown); !errors.Is(err, outbox.ErrNotFound) {
			t.Errorf("Message %q: %v, want ErrNotFound", unknown, err)
		}
		if _, err := s.Content(t.Context(), one, unknown); !errors.Is(err, outbox.ErrNotFound) {
			t.Errorf("Content %q: %v, want ErrNotFound", unknown, err)
		}
	}
}

func testCountOpen(t *testing.T, open Opener) {
	s := open(t, one, two)
	accept(t, s, plain(two, 9))
	for n := range 3 {
		wantOpen(t, s, n)
		accept(t, s, plain(one, n))
	}
	cancelled := accept(t, s, plain(one, 4))
	wantOpen(t, s, 4)
	if _, err := s.Cancel(t.Context(), one, cancelled.ID, moment(5), false); err != nil {
		t.Fatal(err)
	}
	wantOpen(t, s, 3)
}

func wantOpen(t *testing.T, s Store, want int) {
	t.Helper()
	if n, err := s.CountOpen(t.Context(), one); n != want || err != nil {
		t.Errorf("CountOpen: %d, %v; want %d", n, err, want)
	}
}

func testIdempotencyKey(t *testing.T, open Opener) {
	s := open(t, one, two)
	first := accept(t, s, mail(one, 1))
	again := mail(one, 2)
	again.IdempotencyKey = first.IdempotencyKey
	kept, err := s.Accept(t.Context(), again, contentOf(again))
	if !errors.Is(err, outbox.ErrKeyTaken) {
		t.Errorf("Accept with the same key: %v, want ErrKeyTaken", err)
	}
	wantEqual(t, "mail with the key", kept, first)
	if _, err := s.Message(t.Context(), one, again.ID); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("Message that was not taken: %v, want ErrNotFound", err)
	}
	if _, err := s.Content(t.Context(), one, again.ID); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("Content that was not taken: %v, want ErrNotFound", err)
	}
	if found, err := s.MessageByKey(t.Context(), one, first.IdempotencyKey); err != nil {
		t.Errorf("MessageByKey: %v", err)
	} else {
		wantEqual(t, "MessageByKey", found, first)
	}
	for _, of := range []struct{ instance, key string }{{two, first.IdempotencyKey}, {one, "another"}, {one, ""}} {
		if _, err := s.MessageByKey(t.Context(), of.instance, of.key); !errors.Is(err, outbox.ErrNotFound) {
			t.Errorf("MessageByKey %v: %v, want ErrNotFound", of, err)
		}
	}
	again.Instance = two
	accept(t, s, again)
	wantMessage(t, s, first)
	testSameKeyAtOnce(t, s)
}

// testSameKeyAtOnce has callers who repeat a call without waiting for the first one's answer.
func testSameKeyAtOnce(t *testing.T, s Store) {
	const callers = 16
	kept, errs := make([]outbox.Message, callers), make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			m := mail(one, 3)
			kept[i], errs[i] = s.Accept(t.Context(), m, contentOf(m))
		})
	}
	all.Wait()
	taken := 0
	for i, err := range errs {
		switch {
		case err == nil:
			taken++
		case !errors.Is(err, outbox.ErrKeyTaken):
			t.Fatal(err)
		}
		wantEqual(t, "mail of a caller", kept[i], kept[0])
	}
	wantEqual(t, "mails taken", taken, 1)
}

func testInstances(t *testing.T, open Opener) {
	s := open(t, one, two)
	ours, theirs := activate(t, s, one, 1), activate(t, s, two, 2)
	mine := accept(t, s, mail(one, 1))
	for name, err := range map[string]error{
		"Message": second(s.Message(t.Context(), two, mine.ID)),
		"Content": second(s.Content(t.Context(), two, mine.ID)),
		"Cancel":  second(s.Cancel(t.Context(), two, mine.ID, moment(2), false)),
		"Requeue": second(s.Requeue(t.Context(), two, mine.ID, moment(2), moment(9))),
	} {
		if !errors.Is(err, outbox.ErrNotFound) {
			t.Errorf("%s of another instance's mail: %v, want ErrNotFound", name, err)
		}
	}
	wantClaimed(t, "claim of the other instance", claim(t, s, two, 2, 9))
	if expired, err := s.Expire(t.Context(), two, mine.Expires, 9, false); err != nil || len(expired) > 0 {
		t.Errorf("Expire of another instance: %v, %v", expired, err)
	}
	for _, f := range []outbox.Filter{{}, {Tag: mine.Tag}, {Recipient: "b@example.com"}, {States: outbox.States()}} {
		f.Limit = 9
		if found, err := s.Messages(t.Context(), two, f); err != nil || len(found) > 0 {
			t.Errorf("Messages of the other instance: %v, %v", found, err)
		}
	}
	stolen := claimOne(t, s, one, 2).Lease()
	stolen.Instance = two
	settlement := outbox.Settlement{Lease: stolen, At: moment(3), State: outbox.Delivered, Attempt: attempt(theirs, 3)}
	if refused, err := s.Settle(t.Context(), []outbox.Settlement{settlement}); err != nil || len(refused) != 1 {
		t.Errorf("Settle of another instance's mail: %v refused, %v", refused, err)
	}
	if lost, err := s.Extend(t.Context(), []outbox.Lease{stolen}, moment(9)); err != nil || len(lost) != 1 {
		t.Errorf("Extend of another instance's lease: %v lost, %v", lost, err)
	}
	for instance, id := range map[string]string{one: theirs.ID, two: ours.ID} {
		if uses, err := s.CredentialUses(t.Context(), instance, id, 9); err != nil || len(uses) > 0 {
			t.Errorf("Uses of another instance's provider: %v, %v", uses, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func testEndedContext(t *testing.T, open Opener) {
	s := open(t, one)
	activate(t, s, one, 1)
	m := accept(t, s, mail(one, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := []outbox.Lease{{Instance: one, ID: m.ID, Fence: 1}}
	for name, err := range map[string]error{
		"Accept":   second(s.Accept(ctx, plain(one, 2), contentOf(m))),
		"Message":  second(s.Message(ctx, one, m.ID)),
		"Attempts": second(s.Attempts(ctx, one, m.ID)),
		"Content":  second(s.Content(ctx, one, m.ID)),
		"Messages": second(s.Messages(ctx, one, outbox.Filter{Limit: 1})),
		"Cancel":   second(s.Cancel(ctx, one, m.ID, moment(2), false)),
		"Requeue":  second(s.Requeue(ctx, one, m.ID, moment(2), moment(9))),
		"Uses":     second(s.CredentialUses(ctx, one, "1", 1)),
		"Claim":    second(s.Claim(ctx, request(one, 2, 1))),
		"Extend":   second(s.Extend(ctx, l, moment(9))),
		"Settle":   second(s.Settle(ctx, []outbox.Settlement{{Lease: l[0], State: outbox.Failed}})),
		"Expire":   second(s.Expire(ctx, one, m.Expires.Add(time.Hour), 9, false)),
		"Waiting":  second(s.Waiting(ctx)),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v, want context.Canceled", name, err)
		}
	}
	wantMessage(t, s, m)
}
