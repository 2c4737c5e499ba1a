package outbox_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// wantFault fails unless err is a failure of this kind and id.
func wantFault(t *testing.T, what string, err error, kind fault.Kind, id string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != kind || f.ID != id {
		t.Errorf("%s: %v, want %s", what, err, id)
	}
}

// TestRetry: a mail that waits goes at once; one that failed has nothing left to send.
func TestRetry(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.carrier.playing(failing(emailprovider.StepData, 451, true))
		id := b.send(us)
		for len(b.carrier.carried()) < 6 { // the next attempt is five minutes away
			time.Sleep(time.Second)
		}
		b.carrier.playing(nil)
		if _, err := b.service.Retry(t.Context(), us, id); err != nil {
			t.Fatal(err)
		}
		retried := time.Now()
		b.until(us, id, outbox.Delivered)
		if took := time.Since(retried); took < 5*time.Second || took > 12*time.Second {
			t.Errorf("took %s, want the shortest time between two attempts", took)
		}
		_, err := b.service.Retry(t.Context(), us, id)
		wantFault(t, "retry of a delivered one", err, fault.FailedPrecondition, "MAILKEEP-STATE")

		b.carrier.playing(failing(emailprovider.StepData, 554, false))
		id = b.send(us)
		b.until(us, id, outbox.Failed)
		_, err = b.service.Retry(t.Context(), us, id)
		wantFault(t, "retry of an erased one", err, fault.FailedPrecondition, "MAILKEEP-ERASED")
		_, err = b.service.Content(t.Context(), us, id)
		wantFault(t, "content of an erased one", err, fault.NotFound, "MAILKEEP-ERASED")
	})
}

// TestKeepBodies: a mail that failed can be sent again while its content is kept.
func TestKeepBodies(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.keepBodies = true
		b.restart()
		b.activate(us)
		b.carrier.playing(failing(emailprovider.StepRecipient, 550, false))
		id := b.send(us)
		if m := b.until(us, id, outbox.Failed); m.Recipients[0].State != outbox.Refused || m.Recipients[0].Code != 550 {
			t.Errorf("recipients %+v", m.Recipients)
		}
		if c, err := b.service.Content(t.Context(), us, id); err != nil || c.Text != "t" || c.Subject != "s" {
			t.Errorf("content %+v, %v", c, err)
		}
		b.carrier.playing(nil)
		if m, err := b.service.Retry(t.Context(), us, id); err != nil || m.State != outbox.Queued || m.Recipients[0].State != outbox.Pending {
			t.Fatalf("%+v, %v", m, err)
		}
		if m := b.until(us, id, outbox.Delivered); m.Attempts != 2 {
			t.Errorf("%d attempts", m.Attempts)
		}
		if _, err := b.service.Content(t.Context(), us, id); err != nil {
			t.Errorf("content of a delivered one: %v", err)
		}
	})
}

func TestCancel(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.carrier.playing(failing(emailprovider.StepDial, 0, true))
		id := b.send(us)
		for len(b.carrier.carried()) == 0 {
			synctest.Wait()
			time.Sleep(time.Second)
		}
		b.until(us, id, outbox.Queued)
		for range 2 { // the second time changes nothing
			if m, err := b.service.Cancel(t.Context(), us, id); err != nil || m.State != outbox.Cancelled {
				t.Fatalf("%+v, %v", m, err)
			}
		}
		b.carrier.playing(nil)
		time.Sleep(lifetime + time.Minute)
		if m, _ := b.message(us, id); m.State != outbox.Cancelled || len(b.carrier.carried()) != 1 {
			t.Errorf("%s, carried %d times", m.State, len(b.carrier.carried()))
		}
		_, err := b.service.Content(t.Context(), us, id)
		wantFault(t, "content of a cancelled one", err, fault.NotFound, "MAILKEEP-ERASED")
	})
}

// TestWatchers: there may be a hundred at a time.
func TestWatchers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { _ = b.service.Watch(ctx, us, "", "", nil, nil) }) // ends with ctx
		}
		synctest.Wait()
		wantFault(t, "one more", b.service.Watch(ctx, us, "", "", nil, nil), fault.ResourceExhausted, "MAILKEEP-WATCHERS")
		cancel()
		all.Wait()
		refused := errors.New("went away")
		if err := b.service.Watch(t.Context(), us, "", "", func() error { return refused }, nil); !errors.Is(err, refused) {
			t.Errorf("after they went: %v", err)
		}
	})
}

// TestWatch: one mail from its first state to its last, and all mails with a tag.
func TestWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		tagged := make(chan outbox.Message, 100)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- b.service.Watch(ctx, us, "", "wanted", nil, func(m outbox.Message) error { tagged <- m; return nil })
		}()
		synctest.Wait()
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(time.Second)
			return accept(ctx, via, mail)
		})
		b.send(us)
		id, err := b.service.Send(t.Context(), us, outbox.Draft{To: []string{"r@example.com"}, Text: "t", Tag: "wanted"})
		if err != nil {
			t.Fatal(err)
		}
		var states []outbox.State
		if err := b.service.Watch(t.Context(), us, id, "", nil, func(m outbox.Message) error {
			if states = append(states, m.State); m.ID != id {
				t.Errorf("saw %s", m.ID)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		states = slices.Compact(states)
		if len(states) < 2 || states[len(states)-1] != outbox.Delivered || !states[0].Open() {
			t.Errorf("states %v", states)
		}
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
		close(tagged)
		var all []outbox.State
		for m := range tagged {
			if all = append(all, m.State); m.ID != id {
				t.Errorf("saw %s, which has tag %q", m.ID, m.Tag)
			}
		}
		if got := slices.Compact(all); !slices.Equal(got, []outbox.State{outbox.Queued, outbox.Sending, outbox.Delivered}) {
			t.Errorf("states %v", got)
		}
		err = b.service.Watch(t.Context(), us, "unknown", "", nil, nil)
		wantFault(t, "watch of an unknown one", err, fault.NotFound, "MAILKEEP-MESSAGE")
	})
}

// TestSlowWatcher: who does not read is told so, and holds up nobody.
func TestSlowWatcher(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		stuck := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- b.service.Watch(t.Context(), us, "", "", nil, func(outbox.Message) error { <-stuck; return nil })
		}()
		synctest.Wait()
		for range 600 { // each has three states
			b.send(us)
		}
		last := b.send(us)
		b.until(us, last, outbox.Delivered)
		close(stuck)
		wantFault(t, "slow watch", <-ended, fault.Aborted, "MAILKEEP-SLOW")
	})
}

// TestIdempotency: a repeated call gets its answer again whatever has happened since, and another mail
// none.
func TestIdempotency(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		provider := b.activate(us)
		d := outbox.Draft{To: []string{"r@example.com"}, Text: "123456 is your code", IdempotencyKey: "once"}
		send := func(d outbox.Draft) (string, error) { return b.service.Send(t.Context(), us, d) }
		id, err := send(d)
		if err != nil {
			t.Fatal(err)
		}
		b.until(us, id, outbox.Delivered)
		check := func(when string) {
			if again, err := send(d); err != nil || again != id {
				t.Errorf("%s: the same mail again is %s, %v", when, again, err)
			}
			other := d
			other.Text = "654321 is your code"
			_, err := send(other)
			wantFault(t, when+": another mail", err, fault.AlreadyExists, "MAILKEEP-IDEMPOTENCY")
		}
		check("after it was delivered")
		if _, err := b.providers.Deactivate(t.Context(), emailprovider.Caller{Instance: us}, provider); err != nil {
			t.Fatal(err)
		}
		check("without an active provider")
		d.IdempotencyKey = "twice"
		_, err = send(d)
		wantFault(t, "a new key without an active provider", err, fault.FailedPrecondition, "MAILKEEP-NOACTIVE")
		if n := len(b.carrier.carried()); n != 1 {
			t.Errorf("sent %d times", n)
		}
	})
}

// TestRecipientsAreBound: who writes into the database can't have a mail sent to somebody else.
func TestRecipientsAreBound(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		provider := b.activate(us)
		b.carrier.playing(failing(emailprovider.StepDial, 0, true))
		id := b.send(us)
		for len(b.carrier.carried()) == 0 {
			time.Sleep(time.Second)
		}
		b.carrier.playing(nil)
		b.recipients = func(m *outbox.Message) { m.Recipients[0].Address = "eve@example.com" }
		b.restart()
		time.Sleep(time.Minute)
		if m, _ := b.message(us, id); m.State != outbox.Queued || len(b.carrier.carried()) != 1 {
			t.Errorf("%s through %s: carried %d times", m.State, provider, len(b.carrier.carried()))
		}
		b.recipients = nil
		b.restart()
		b.until(us, id, outbox.Delivered)
	})
}

// TestOthersMails: an instance sees only its own, and what is another's is like what is not there.
func TestOthersMails(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.addInstance("other")
		b.activate(us)
		id := b.send(us)
		b.until(us, id, outbox.Delivered)
		ctx := t.Context()
		_, _, err := b.service.Get(ctx, "other", id)
		wantFault(t, "Get", err, fault.NotFound, "MAILKEEP-MESSAGE")
		_, err = b.service.Content(ctx, "other", id)
		wantFault(t, "Content", err, fault.NotFound, "MAILKEEP-MESSAGE")
		_, err = b.service.Retry(ctx, "other", id)
		wantFault(t, "Retry", err, fault.NotFound, "MAILKEEP-MESSAGE")
		_, err = b.service.Cancel(ctx, "other", id)
		wantFault(t, "Cancel", err, fault.NotFound, "MAILKEEP-MESSAGE")
		if page, _, err := b.service.List(ctx, "other", outbox.Filter{}); err != nil || len(page) != 0 {
			t.Errorf("List: %v, %v", page, err)
		}
		_, err = b.service.Send(ctx, "other", outbox.Draft{To: []string{"r@example.com"}, Text: "t"})
		wantFault(t, "Send", err, fault.FailedPrecondition, "MAILKEEP-NOACTIVE")
	})
}
