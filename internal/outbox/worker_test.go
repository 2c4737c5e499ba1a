package outbox_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const us = instance.Default

func TestDeliver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		provider := b.activate(us)
		started := time.Now()
		id := b.send(us)
		m := b.until(us, id, outbox.Delivered)
		if took := time.Since(started); took > time.Second {
			t.Errorf("took %s", took)
		}
		_, attempts := b.message(us, id)
		if len(attempts) != 1 || !attempts[0].Accepted || attempts[0].ProviderID != provider || attempts[0].CredentialVersion != 1 {
			t.Errorf("attempts %+v", attempts)
		}
		if m.ProviderID != provider || m.CredentialVersion != 1 || m.Attempts != 1 {
			t.Errorf("%+v", m)
		}
		if _, err := b.service.Content(t.Context(), us, id); err == nil {
			t.Error("the content of a delivered mail is still there")
		}
		c := b.carrier.carried()[0]
		if c.mail.MessageID != id+"@example.com" || !c.mail.Date.Equal(m.Created) || c.via.Secret.Reveal() != "first" {
			t.Errorf("carried %+v", c)
		}
	})
}

// TestBackoff: a mail that can't be sent is tried again, less and less often, the same each time, and
// ends with a record.
func TestRetries(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.carrier.playing(failing(emailprovider.StepData, 451, true))
		sent := time.Now()
		id := b.send(us)
		m := b.until(us, id, outbox.Expired)
		if life := time.Since(sent); life < lifetime || life > lifetime+10*time.Second {
			t.Errorf("expired after %s", life)
		}
		seen := b.carrier.carried()
		for i := 1; i < len(seen); i++ {
			gap, low, high := seen[i].at.Sub(seen[i-1].at), 48*time.Minute, time.Hour
			if i < 10 {
				low, high = 8*time.Second<<(i-1), 12*time.Second<<(i-1)
			}
			if gap < max(low, 10*time.Second) || gap > min(high, time.Hour)+3*time.Second {
				t.Errorf("attempt %d came %s after the one before, want %s to %s", i+1, gap, low, high)
			}
			if seen[i].mail.MessageID != seen[0].mail.MessageID || !seen[i].mail.Date.Equal(seen[0].mail.Date) {
				t.Errorf("attempt %d was another mail", i+1)
			}
		}
		_, attempts := b.message(us, id)
		if len(attempts) != len(seen) || len(seen) < 12 || m.Attempts != len(seen) || m.Reason != "data: 451 said" {
			t.Errorf("%d attempts are recorded of %d, reason %q", len(attempts), len(seen), m.Reason)
		}
	})
}

// TestBreaker: a credential that the server refuses is not shown to it more than once a minute, and
// a new one is used at once.
func TestBreaker(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		provider := b.activate(us)
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(20 * time.Millisecond)
			if via.Secret.Reveal() == "first" {
				return failing(emailprovider.StepAuth, 535, false)(ctx, via, mail)
			}
			return accept(ctx, via, mail)
		})
		var ids []string
		for range 50 {
			ids = append(ids, b.send(us))
		}
		time.Sleep(10*time.Minute + 30*time.Second)
		seen := b.carrier.carried()
		for i := 1; i < len(seen); i++ {
			if gap := seen[i].at.Sub(seen[i-1].at); gap < time.Minute {
				t.Errorf("the refused password was shown again after %s", gap)
			}
		}
		if len(seen) < 8 || len(seen) > 11 {
			t.Errorf("the refused password was shown %d times in ten and a half minutes", len(seen))
		}
		uses, err := b.service.Uses(t.Context(), us, provider, 10)
		if err != nil || len(uses) != 1 || uses[0].Probe.IsZero() || uses[0].Failures != uint64(len(seen)) || uses[0].FailureCode != 535 {
			t.Errorf("uses %+v, %v", uses, err)
		}

		changed := time.Now()
		if _, err := b.providers.SetPassword(t.Context(), emailprovider.Caller{Instance: us}, provider, secret.New("second")); err != nil {
			t.Fatal(err)
		}
		id := b.send(us)
		b.until(us, id, outbox.Delivered)
		if took := time.Since(changed); took > time.Second {
			t.Errorf("the new password was used after %s", took)
		}
		for _, id := range ids {
			b.until(us, id, outbox.Delivered)
		}
	})
}

// TestNoProvider: mails wait for a provider to become active, and go through it.
func TestNoProvider(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		by := emailprovider.Caller{Instance: us}
		first := b.activate(us)
		b.carrier.playing(failing(emailprovider.StepDial, 0, true))
		id := b.send(us)
		synctest.Wait()
		if _, err := b.providers.Deactivate(t.Context(), by, first); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		tried := len(b.carrier.carried())
		if m, _ := b.message(us, id); m.State != outbox.Queued || tried > 1 {
			t.Errorf("%s after %d attempts", m.State, tried)
		}
		b.carrier.playing(nil)
		second := b.activate(us)
		activated := time.Now()
		if m := b.until(us, id, outbox.Delivered); m.ProviderID != second {
			t.Errorf("went through %s", m.ProviderID)
		}
		if took := time.Since(activated); took > time.Second {
			t.Errorf("went %s after the activation", took)
		}
	})
}

// TestSlowServer: a server that does not answer holds up nobody else.
func TestSlowServer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.addInstance("other")
		b.activate(us)
		b.activate("other")
		release := make(chan struct{})
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			if via.Instance == us {
				<-release
			}
			return accept(ctx, via, mail)
		})
		var slow []string
		for range 40 {
			slow = append(slow, b.send(us))
		}
		time.Sleep(10 * time.Second)
		started := time.Now()
		for range 40 {
			b.until("other", b.send("other"), outbox.Delivered)
		}
		if took := time.Since(started); took > time.Second {
			t.Errorf("took %s", took)
		}
		close(release)
		for _, id := range slow {
			b.until(us, id, outbox.Delivered)
		}
	})
}

// TestHeartbeat: however long a server takes, nobody else sends the same mail.
func TestHeartbeat(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(10 * time.Minute)
			return accept(ctx, via, mail)
		})
		id := b.send(us)
		synctest.Wait()
		other := &carrier{}
		defer b.run(store{DB: b.db}, other)()
		b.until(us, id, outbox.Delivered)
		if n := len(other.carried()); n != 0 {
			t.Errorf("the other worker sent it too, %d times", n)
		}
	})
}

// TestTakeover: the mails of a worker that is out of reach are another's after its lease, and what it
// says afterwards is refused.
func TestTakeover(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		gone := &carrier{}
		back := make(chan struct{})
		gone.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			<-back
			return failing(emailprovider.StepData, 554, false)(ctx, via, mail)
		})
		paused := func() error {
			if len(gone.carried()) > 0 {
				return errors.New("paused")
			}
			return nil
		}
		stopGone := b.run(store{DB: b.db, claim: paused, extend: paused}, gone)
		var id string
		for len(gone.carried()) == 0 { // either worker may take it
			id = b.send(us)
			synctest.Wait()
			time.Sleep(time.Second)
		}
		claimed := time.Now()
		b.until(us, id, outbox.Delivered)
		seen := b.carrier.carried()
		if took := seen[len(seen)-1].at.Sub(claimed); took > 61*time.Second {
			t.Errorf("taken over after %s", took)
		}
		close(back)
		stopGone()
		if m, attempts := b.message(us, id); m.State != outbox.Delivered || len(attempts) != 1 {
			t.Errorf("the late settlement counted: %s, %d attempts", m.State, len(attempts))
		}
	})
}

// TestStoreDown: a mail that was delivered while the store was down is recorded when it is back, and
// not sent again.
func TestStoreDown(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		var down atomic.Bool
		down.Store(true)
		mine := &carrier{}
		id := ""
		stop := b.run(store{DB: b.db, settle: func() error {
			if down.Load() {
				return errors.New("no space")
			}
			return nil
		}}, mine)
		defer stop()
		for len(mine.carried()) == 0 {
			id = b.send(us)
			synctest.Wait()
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		if m, _ := b.message(us, id); m.State != outbox.Sending {
			t.Errorf("%s while nothing could be recorded", m.State)
		}
		down.Store(false)
		b.until(us, id, outbox.Delivered)
		sent := 0
		for _, c := range append(mine.carried(), b.carrier.carried()...) {
			if c.mail.MessageID == id+"@example.com" {
				sent++
			}
		}
		if sent != 1 {
			t.Errorf("sent %d times", sent)
		}
	})
}

// TestStop: what is under way is finished, what is not goes back to the queue at once.
func TestStop(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.activate(us)
		b.stop() // the other one
		var ids []string
		mine := &carrier{}
		mine.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			select {
			case <-time.After(8 * time.Second):
				return accept(ctx, via, mail)
			case <-ctx.Done():
				return failing(emailprovider.StepData, 0, true)(ctx, via, mail)
			}
		})
		stop := b.run(store{DB: b.db}, mine)
		for range 30 {
			ids = append(ids, b.send(us))
		}
		time.Sleep(2 * time.Second)
		started := time.Now()
		stop()
		if took := time.Since(started); took > 11*time.Second {
			t.Errorf("stopped after %s", took)
		}
		delivered := 0
		for _, id := range ids {
			switch m, _ := b.message(us, id); m.State {
			case outbox.Delivered:
				delivered++
			case outbox.Queued:
			default:
				t.Errorf("mail is %s", m.State)
			}
		}
		if delivered == 0 {
			t.Error("nothing that was under way was finished")
		}
	})
}
