package outbox_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// player is what a carrier does with a mail.
type player = func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery

// first does one thing with the first mails, in their order, and accepts the others.
func first(plays ...player) player {
	var n atomic.Int64
	return func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
		if i := int(n.Add(1)) - 1; i < len(plays) {
			return plays[i](ctx, via, mail)
		}
		return accept(ctx, via, mail)
	}
}

// stalled does not answer for so long, and breaks off then.
func stalled(d time.Duration) player {
	return func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		return failing(emailprovider.StepData, 0, true)(ctx, via, mail)
	}
}

// soon fails the test unless a mail is delivered within the time.
func (b *bed) soon(id string, within time.Duration) {
	b.t.Helper()
	started := time.Now()
	b.until(us, id, outbox.Delivered)
	if took := time.Since(started); took > within {
		b.t.Errorf("delivered after %s, want within %s", took, within)
	}
}

// TestOldTryDoesNotHoldUpTheNew: a server that stalls with the old password is no reason to wait.
func TestOldTryDoesNotHoldUpTheNew(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		provider := b.activate(us)
		b.carrier.playing(first(stalled(10 * time.Minute)))
		b.send(us)
		synctest.Wait()
		time.Sleep(time.Second)
		if _, err := b.providers.SetPassword(t.Context(), emailprovider.Caller{Instance: us}, provider, secret.New("second")); err != nil {
			t.Fatal(err)
		}
		b.soon(b.send(us), time.Second)
	})
}

// TestStallAndFailure: one mail that stalls and one session that fails don't stop the others.
func TestStallAndFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.until(us, b.send(us), outbox.Delivered)
		b.carrier.playing(first(stalled(10*time.Minute), failing(emailprovider.StepDial, 0, true)))
		b.send(us)
		synctest.Wait()
		b.send(us)
		synctest.Wait()
		b.soon(b.send(us), 11*time.Second)
	})
}

// TestPause: after a session that failed the next mail waits a second.
func TestPause(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.until(us, b.send(us), outbox.Delivered)
		b.carrier.playing(first(failing(emailprovider.StepDial, 0, true)))
		b.send(us)
		synctest.Wait()
		b.soon(b.send(us), 2*time.Second)
	})
}

// TestFewerSessions: a server that takes three sessions of our four is used with three.
func TestFewerSessions(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.until(us, b.send(us), outbox.Delivered)
		var open, refused atomic.Int64
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			defer open.Add(-1)
			if open.Add(1) > 3 {
				refused.Add(1)
				return failing(emailprovider.StepEHLO, 421, true)(ctx, via, mail)
			}
			time.Sleep(20 * time.Millisecond)
			return accept(ctx, via, mail)
		})
		started := time.Now()
		var ids []string
		for range 500 {
			ids = append(ids, b.send(us))
		}
		for _, id := range ids {
			b.until(us, id, outbox.Delivered)
		}
		if took := time.Since(started); took > 30*time.Second || refused.Load() > 20 {
			t.Errorf("took %s with %d sessions refused; 3.4 s are enough", took, refused.Load())
		}
	})
}

// TestOldSession: the password was changed at the server, and a session from before still works. That
// does not make the refused password any better.
func TestOldSession(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.until(us, b.send(us), outbox.Delivered)
		var old, mu sync.Mutex
		var refusals []time.Time
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			if !old.TryLock() {
				mu.Lock()
				defer mu.Unlock()
				refusals = append(refusals, time.Now())
				return failing(emailprovider.StepAuth, 535, false)(ctx, via, mail)
			}
			defer old.Unlock()
			time.Sleep(30 * time.Millisecond)
			d := accept(ctx, via, mail)
			d.Steps = []emailprovider.StepTime{{Step: emailprovider.StepData}}
			return d
		})
		for range 600 {
			b.send(us)
		}
		time.Sleep(10 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if n := len(refusals); n == 0 || n > 4+10 { // the sessions that were being opened, then one a minute
			t.Errorf("the refused password was shown %d times in ten minutes", n)
		}
	})
}

// TestStoreDownForLong: a mail that is under way, or waits to be recorded, while nothing can be written
// for longer than its lease is not sent again by the one who sends it.
func TestStoreDownForLong(t *testing.T) {
	for name, takes := range map[string]time.Duration{"under way": 5 * time.Minute, "to be recorded": time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.activate(us)
				b.stop()
				var down atomic.Bool
				broken := func() error {
					if down.Load() {
						return errors.New("no space")
					}
					return nil
				}
				b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
					down.Store(true)
					time.Sleep(takes)
					return accept(ctx, via, mail)
				})
				b.stop = b.run(store{DB: b.db, claim: broken, extend: broken, settle: broken}, b.carrier)
				id := b.send(us)
				time.Sleep(2*time.Minute + 300*time.Millisecond)
				down.Store(false)
				b.until(us, id, outbox.Delivered)
				time.Sleep(10 * time.Minute)
				if n := len(b.carrier.carried()); n != 1 {
					t.Errorf("sent %d times", n)
				}
			})
		})
	}
}

// TestRemovedMeanwhile: the mails of a claim that were not begun yet don't go through a provider that
// was removed, nor out after their life.
func TestRemovedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		provider := b.activate(us)
		b.until(us, b.send(us), outbox.Delivered)
		b.stop() // so that they are few claims
		short, err := b.service.Send(t.Context(), us, outbox.Draft{To: []string{"r@example.com"}, Text: "t", ExpiresIn: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for range 16 {
			b.send(us)
		}
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(5 * time.Minute)
			return accept(ctx, via, mail)
		})
		b.restart()
		time.Sleep(time.Minute)
		if _, err := b.providers.Remove(t.Context(), emailprovider.Caller{Instance: us}, provider); err != nil {
			t.Fatal(err)
		}
		removed := time.Now()
		time.Sleep(2 * time.Hour)
		for _, c := range b.carrier.carried() {
			if c.at.After(removed) {
				t.Errorf("a mail was begun %s after the removal", c.at.Sub(removed))
			}
			if c.mail.Args["id"] == short && c.at.Sub(c.mail.Date) > 30*time.Second {
				t.Errorf("a mail was begun %s after it was taken, for 30 s", c.at.Sub(c.mail.Date))
			}
		}
	})
}

// gated is a store whose claims a test hears of before the worker does.
type gated struct {
	store
	claimed func()
}

func (g gated) Claim(ctx context.Context, c outbox.ClaimRequest) (outbox.Claim, error) {
	claim, err := g.store.Claim(ctx, c)
	if len(claim.Mails) > 0 {
		g.claimed()
	}
	return claim, err
}

// TestWokenWhileClaiming: a mail that is taken just after a claim has looked does not wait for it.
func TestWokenWhileClaiming(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.until(us, b.send(us), outbox.Delivered)
		b.stop()
		ids := make(chan string, 1)
		var armed atomic.Bool
		b.stop = b.run(gated{store{DB: b.db}, func() {
			if armed.CompareAndSwap(true, false) {
				ids <- b.send(us)
			}
		}}, b.carrier)
		b.until(us, b.send(us), outbox.Delivered)
		b.carrier.playing(first(stalled(20 * time.Second)))
		armed.Store(true)
		b.send(us)
		b.soon(<-ids, time.Second)
	})
}

// unsure is a store that once does not know whether it has settled, and has.
type unsure struct {
	store
	once *atomic.Bool
}

func (u unsure) Settle(ctx context.Context, all []outbox.Settlement) ([]outbox.Lease, error) {
	lost, err := u.store.Settle(ctx, all)
	if err == nil && u.once.CompareAndSwap(false, true) {
		return nil, errors.New("outcome unknown")
	}
	return lost, err
}

// TestWatchOfAnUnknownOutcome: who waits for a mail hears of it all the same.
func TestWatchOfAnUnknownOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.stop()
		b.stop = b.run(unsure{store{DB: b.db}, new(atomic.Bool)}, b.carrier)
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(time.Second)
			return accept(ctx, via, mail)
		})
		id := b.send(us)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := b.service.Watch(ctx, us, id, "", nil, func(outbox.Message) error { return nil }); err != nil {
			m, _ := b.message(us, id)
			t.Errorf("the watch ended with %v; the mail is %s", err, m.State)
		}
	})
}
