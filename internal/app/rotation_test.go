package app_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// freshness changes a password over and over and sends mails meanwhile. Every mail says which version
// was acknowledged before it was sent, and the inbox which one the mail came with.
type freshness struct {
	t        *testing.T
	s        *service
	inbox    *smtptest.Server
	provider string
	wires    []wire

	acknowledged atomic.Int64 // version at the inbox
	sent         atomic.Int64
	arrived      atomic.Int64
	stale        atomic.Int64
	worst        atomic.Int64 // how many versions behind
}

func newFreshness(t *testing.T, wrap func(app.Store) app.Store) *freshness {
	t.Helper()
	f := &freshness{t: t}
	var err error
	f.inbox, err = smtptest.Start(smtptest.Options{DemandAuth: true, Keep: 1, OnMail: f.check})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.inbox.Close() })
	f.rotateInbox()
	c := config(t)
	c.WrapStore = wrap
	f.s = start(t, c)
	f.provider = f.s.addProvider(t, f.inbox.Addr(), "password 1")
	f.acknowledged.Store(1)
	f.wires = append(f.s.wires(http1), f.s.wires(http2)...)
	f.call("ActivateEmailProvider", `{"id":"`+f.provider+`"}`)
	return f
}

// rotateInbox lets the inbox know the next password; those before stay good, so that a stale one
// shows itself.
func (f *freshness) rotateInbox() (version int) {
	next := f.acknowledged.Load() + 1
	return f.inbox.AllowPassword(user, fmt.Sprintf("password %d", next))
}

// check is what the inbox does with a mail.
func (f *freshness) check(m smtptest.Mail) {
	f.arrived.Add(1)
	var least int
	_, after, _ := bytes.Cut(m.Data, []byte("Subject: after "))
	if _, err := fmt.Sscan(string(after), &least); err != nil {
		f.t.Errorf("a mail that nobody sent:\n%s", m.Data)
	}
	if behind := int64(least - m.Version); behind > 0 {
		f.stale.Add(1)
		f.worst.Store(max(f.worst.Load(), behind))
	}
}

func (f *freshness) call(name, body string) {
	m := methods()[name]
	w := f.wires[rand.N(len(f.wires))]
	if a := w.call(f.t, adminToken, m, message(f.t, string(m.Descriptor.Input().FullName()), body)); a.code != 0 {
		f.t.Errorf("%s over %s: %v", name, w.name, a)
	}
}

// send sends a mail that must come with what is acknowledged now, or newer.
func (f *freshness) send() {
	subject := fmt.Sprintf("after %d", f.acknowledged.Load())
	f.call("SendMessage", `{"to":["r@example.com"],"text":"x","subject":"`+subject+`"}`)
	f.sent.Add(1)
}

// rotate changes the password n times, by both generations and over all protocols, each time with a
// mail right after, while others send too; then it waits for all mails.
func (f *freshness) rotate(n int, enough func() bool) {
	var load sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					f.send()
				}
			}
		})
	}
	for i := 0; i < n && !enough() && !f.t.Failed(); i++ {
		version := f.rotateInbox()
		method := []string{"UpdateSMTPConfigPassword", "UpdateEmailProviderSMTPPassword"}[i%2]
		f.call(method, fmt.Sprintf(`{"id":%q,"password":"password %d"}`, f.provider, version))
		f.acknowledged.Store(int64(version))
		f.send()
	}
	close(done)
	load.Wait()
	for deadline := time.Now().Add(time.Minute); f.arrived.Load() < f.sent.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("%d of %d mails have arrived", f.arrived.Load(), f.sent.Load())
		}
	}
}

func never() bool { return false }

// TestFreshness is the promise: the moment a password change is acknowledged, the next mail anyone
// sends authenticates with it.
func TestFreshness(t *testing.T) {
	rotations := atLength(500, 5000) // CI proves it at full length
	f := newFreshness(t, nil)
	started := time.Now()
	f.rotate(rotations, never)
	t.Logf("REL fresh rotations=%d mails=%d stale=%d duplicates=%d seconds=%.0f", rotations, f.sent.Load(), f.stale.Load(),
		f.arrived.Load()-f.sent.Load(), time.Since(started).Seconds())
	if n := f.stale.Load(); n > 0 {
		t.Errorf("%d mails came with a password that was replaced before they were sent, up to %d versions old", n, f.worst.Load())
	}
	if f.arrived.Load() != f.sent.Load() {
		t.Errorf("%d mails were sent, %d arrived", f.sent.Load(), f.arrived.Load())
	}
}

// staleFor is more than a rotation takes, with the race detector too.
const staleFor = 200 * time.Millisecond

// remembering is a store whose claims know the provider from a cache.
type remembering struct {
	app.Store
	lasts time.Duration
	mu    sync.Mutex
	until time.Time
	was   emailprovider.Provider
}

func (r *remembering) Claim(ctx context.Context, c outbox.ClaimRequest) (outbox.Claim, error) {
	claim, err := r.Store.Claim(ctx, c)
	if claim.Provider.ID == "" {
		return claim, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().After(r.until) {
		r.was, r.until = claim.Provider, time.Now().Add(r.lasts)
	}
	claim.Provider = r.was
	return claim, err
}

// TestFreshnessIsMeasured sees that the test above would notice a cache.
func TestFreshnessIsMeasured(t *testing.T) {
	f := newFreshness(t, func(s app.Store) app.Store { return &remembering{Store: s, lasts: staleFor} })
	f.rotate(500, func() bool { return f.stale.Load() > 0 })
	if f.stale.Load() == 0 {
		t.Error("a stale password was not noticed in 500 rotations")
	}
}
