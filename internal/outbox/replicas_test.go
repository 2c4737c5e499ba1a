package outbox_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// silent are others that nobody watches.
type silent struct{}

func (silent) Changes(context.Context, []string, outbox.Mark, int) ([]outbox.Message, outbox.Mark, error) {
	return nil, "", nil
}

// inReplicas runs a test with two outboxes on one store. The other one is the bed's: it takes what the test
// sends and hears of changes, but it sends nothing.
func inReplicas(t *testing.T, test func(t *testing.T, b *bed, mine *outbox.Service)) {
	t.Helper()
	inBubble(t, func(t *testing.T, b *bed) {
		b.stop()
		b.others = silent{}
		b.stop = b.run(store{DB: b.db}, b.carrier)
		mine := b.service
		stopOther := b.run(store{DB: b.db, claim: func() error { return errors.New("paused") }}, nil)
		defer stopOther()
		test(t, b, mine)
	})
}

// TestOthersChanges: what holds a replica's mails back is over when another replica has changed the provider,
// as soon as it is seen.
func TestOthersChanges(t *testing.T) {
	const soon = 1100 * time.Millisecond
	for name, change := range map[string]func(b *bed, provider string){
		"password": func(b *bed, provider string) {
			if _, err := b.providers.SetPassword(b.t.Context(), emailprovider.Caller{Instance: us}, provider, secret.New("second")); err != nil {
				b.t.Fatal(err)
			}
			b.carrier.playing(nil)
		},
		"another provider": func(b *bed, _ string) {
			b.carrier.playing(nil)
			b.activate(us)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inReplicas(t, func(t *testing.T, b *bed, mine *outbox.Service) {
				provider := b.activate(us)
				b.carrier.playing(failing(emailprovider.StepAuth, 535, false))
				id := b.send(us)
				time.Sleep(10*time.Minute + 3*time.Second)
				if m, _ := b.message(us, id); m.State != outbox.Queued {
					t.Fatalf("the mail is %s", m.State)
				}
				change(b, provider)
				b.soon(id, soon)
			})
		})
	}
	t.Run("no provider", func(t *testing.T) {
		inReplicas(t, func(t *testing.T, b *bed, _ *outbox.Service) {
			provider, by := b.activate(us), emailprovider.Caller{Instance: us}
			b.stop()
			id := b.send(us)
			if _, err := b.providers.Deactivate(t.Context(), by, provider); err != nil {
				t.Fatal(err)
			}
			announce := b.providers.Store
			b.stop = b.run(store{DB: b.db}, b.carrier)
			b.providers.Store = announce // the new one does not hear of what changes
			time.Sleep(8 * time.Second)
			if _, err := b.providers.Activate(t.Context(), by, provider); err != nil {
				t.Fatal(err)
			}
			b.soon(id, soon)
		})
	})
}

// TestHeldWithoutMails: a replica whose mails were sent by another one meanwhile does not know yet that it is
// not held back any more. A new mail makes it look.
func TestHeldWithoutMails(t *testing.T) {
	inReplicas(t, func(t *testing.T, b *bed, mine *outbox.Service) {
		provider := b.activate(us)
		b.carrier.playing(failing(emailprovider.StepAuth, 535, false))
		id := b.send(us)
		time.Sleep(10*time.Minute + 3*time.Second)
		if _, err := b.service.Cancel(t.Context(), us, id); err != nil {
			t.Fatal(err)
		}
		if _, err := b.providers.SetPassword(t.Context(), emailprovider.Caller{Instance: us}, provider, secret.New("second")); err != nil {
			t.Fatal(err)
		}
		b.carrier.playing(nil)
		time.Sleep(10 * time.Second)
		b.service = mine
		b.soon(b.send(us), 200*time.Millisecond)
	})
}

// TestMailsOfOthers: a mail that was taken, or is to be tried again, where nobody sends is sent by somebody else.
func TestMailsOfOthers(t *testing.T) {
	inReplicas(t, func(t *testing.T, b *bed, mine *outbox.Service) {
		b.activate(us)
		time.Sleep(time.Minute)
		b.soon(b.send(us), 1100*time.Millisecond)
		b.carrier.playing(first(failing(emailprovider.StepData, 451, true), failing(emailprovider.StepData, 451, true), failing(emailprovider.StepData, 451, true)))
		id := b.send(us)
		for m, _ := b.message(us, id); m.Attempts < 2; m, _ = b.message(us, id) {
			time.Sleep(time.Second)
		}
		if _, err := b.service.Retry(t.Context(), us, id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		if m, _ := b.message(us, id); m.Attempts != 3 {
			t.Errorf("%d attempts after it was retried", m.Attempts)
		}
	})
}

// TestBatchOfAFormerCredential: the mails of a claim that were not begun yet when another replica has changed
// the password come with the new one.
func TestBatchOfAFormerCredential(t *testing.T) {
	inReplicas(t, func(t *testing.T, b *bed, mine *outbox.Service) {
		provider := b.activate(us)
		b.stop()
		var ids []string
		for range 16 {
			ids = append(ids, b.send(us))
		}
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(10 * time.Second)
			return accept(ctx, via, mail)
		})
		announce := b.providers.Store
		b.stop = b.run(store{DB: b.db}, b.carrier)
		b.providers.Store = announce
		time.Sleep(time.Second)
		if _, err := b.providers.SetPassword(t.Context(), emailprovider.Caller{Instance: us}, provider, secret.New("second")); err != nil {
			t.Fatal(err)
		}
		changed := time.Now()
		for _, id := range ids {
			b.until(us, id, outbox.Delivered)
		}
		for _, c := range b.carrier.carried() {
			if c.at.Sub(changed) > time.Second && c.via.Secret.Reveal() != "second" {
				t.Errorf("a mail was begun with the former password %s after the change", c.at.Sub(changed))
			}
		}
	})
}

// TestLooks counts how often a store is asked for work by somebody who has none.
func TestLooks(t *testing.T) {
	for name, c := range map[string]struct {
		others outbox.Others
		hour   int64
	}{"alone": {nil, 720}, "with others": {silent{}, 3600}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.stop()
				b.others = c.others
				var looks atomic.Int64
				b.stop = b.run(store{DB: b.db, looks: &looks}, b.carrier)
				b.activate(us)
				time.Sleep(time.Minute)
				looks.Store(0)
				time.Sleep(time.Hour)
				if n := looks.Load(); n < c.hour-1 || n > c.hour+1 {
					t.Errorf("it looked %d times in an idle hour, want %d", n, c.hour)
				}

				// A provider that refuses, and many who send all the same.
				b.carrier.playing(failing(emailprovider.StepAuth, 535, false))
				b.send(us)
				synctest.Wait()
				looks.Store(0)
				for range 1000 {
					b.send(us)
					time.Sleep(10 * time.Millisecond)
				}
				if n := looks.Load(); n > 120 {
					t.Errorf("it looked %d times in ten seconds", n)
				}
			})
		})
	}
}

// TestBreakerOfReplicas: a refused credential is shown to the server once by each of three replicas at most, who
// may have mails when the first is refused, and then by one of them a minute.
func TestBreakerOfReplicas(t *testing.T) {
	inReplicas(t, func(t *testing.T, b *bed, _ *outbox.Service) {
		b.activate(us)
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(20 * time.Millisecond)
			return failing(emailprovider.StepAuth, 535, false)(ctx, via, mail)
		})
		b.stop()
		for range 100 {
			b.send(us)
		}
		announce := b.providers.Store
		for range 3 {
			defer b.run(store{DB: b.db}, b.carrier)()
		}
		b.providers.Store = announce
		time.Sleep(10*time.Minute + 30*time.Second)
		seen := b.carrier.carried()
		var later []time.Time
		for _, c := range seen {
			if c.at.Sub(seen[0].at) > 20*time.Millisecond {
				later = append(later, c.at)
			}
		}
		if first := len(seen) - len(later); first > 3 || len(later) < 8 || len(later) > 11 {
			t.Errorf("the refused password was shown %d times at first, and %d times in the ten minutes after", first, len(later))
		}
		for i := 1; i < len(later); i++ {
			if gap := later[i].Sub(later[i-1]); gap < time.Minute {
				t.Errorf("it was shown again after %s", gap)
			}
		}
	})
}
