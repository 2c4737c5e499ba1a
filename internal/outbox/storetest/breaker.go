package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

func wantUses(t *testing.T, s Store, p emailprovider.Provider, limit int, want ...outbox.Use) {
	t.Helper()
	got, err := s.CredentialUses(t.Context(), p.Instance, p.ID, limit)
	if err != nil {
		t.Fatalf("Uses: %v", err)
	}
	wantEqual(t, "Uses", got, want)
}

func testUses(t *testing.T, open Opener) {
	s := open(t, one)
	p := activate(t, s, one, 1)
	wantUses(t, s, p, 9)
	try := func(n int, attempts ...*outbox.Attempt) {
		t.Helper()
		for range attempts {
			accept(t, s, plain(one, n))
		}
		all := settlementsOf(claim(t, s, one, n, 9).Mails, outbox.Failed, n)
		for i, a := range attempts {
			all[i].Attempt = a
		}
		all[0].CertExpires = moment(1000 * n)
		settle(t, s, all...)
	}
	accepted := func(n int) *outbox.Attempt {
		a := attempt(p, n)
		a.Accepted, a.Code = true, 250
		return a
	}
	failed := func(n int, step emailprovider.Step, text string) *outbox.Attempt {
		a := attempt(p, n)
		a.Step, a.Code, a.Text = step, 400+n, text
		return a
	}
	try(10, failed(10, emailprovider.StepDial, "no route"))
	first := outbox.Use{
		Version: 1, LastFailure: moment(10), FailureStep: emailprovider.StepDial, FailureCode: 410, FailureText: "no route",
		Failures: 1, CertExpires: moment(10_000),
	}
	wantUses(t, s, p, 9, first)

	try(20, failed(21, emailprovider.StepRecipient, "later"), accepted(24), accepted(22), failed(20, emailprovider.StepData, "earlier"))
	first.FirstUsed, first.LastSuccess, first.Mails, first.Failures = moment(20), moment(24), 2, 3
	first.LastFailure, first.FailureStep, first.FailureCode, first.FailureText = moment(21), emailprovider.StepRecipient, 421, ""
	first.CertExpires = moment(20_000)
	wantUses(t, s, p, 9, first)

	// What is recorded late does not take the place of what is later.
	try(30, accepted(15), failed(16, emailprovider.StepFrom, "stale"))
	first.FirstUsed, first.Mails, first.Failures, first.CertExpires = moment(15), 3, 4, moment(30_000)
	wantUses(t, s, p, 9, first)

	p = rotate(t, s, p)
	try(40, accepted(40), accepted(41))
	second := outbox.Use{Version: 2, FirstUsed: moment(40), LastSuccess: moment(41), Mails: 2, CertExpires: moment(40_000)}
	wantUses(t, s, p, 9, second, first)
	wantUses(t, s, p, 1, second)
	p.ID = "2"
	wantUses(t, s, p, 9)
}

// refused is a mail that came back because the credential is wrong, to be tried again at due.
func refused(p emailprovider.Provider, m outbox.ClaimedMail, n, due int) outbox.Settlement {
	a := attempt(p, n)
	a.Step, a.Code, a.Text = emailprovider.StepAuth, 535, "5.7.8 no"
	return outbox.Settlement{
		Lease: m.Lease(), At: moment(n), State: outbox.Queued, Due: moment(due), Attempt: a, CredentialRefused: true,
	}
}

func testBreaker(t *testing.T, open Opener) {
	s := open(t, one)
	p := activate(t, s, one, 1)
	for range 5 {
		accept(t, s, plain(one, 0))
	}
	wantOpen := func(n, probe, mails int) []outbox.ClaimedMail {
		t.Helper()
		c := claim(t, s, one, n, 9)
		wantEqual(t, "mails and probe", []any{len(c.Mails), c.Probe}, []any{mails, moment(probe)})
		wantEqual(t, "provider", c.Provider, p)
		return c.Mails
	}
	c := claim(t, s, one, 1, 2)
	wantEqual(t, "probe of a closed breaker", c.Probe, time.Time{})
	settle(t, s, refused(p, c.Mails[0], 2, 122), refused(p, c.Mails[1], 2, 122))
	wantOpen(3, 122, 0)
	wantOpen(121, 122, 0)
	probe := wantOpen(122, 242, 1)
	wantOpen(122, 242, 0)
	wantOpen(241, 242, 0)

	// The probe fails: early as its mail may be due, no other comes sooner than it would have.
	settle(t, s, refused(p, probe[0], 125, 126))
	wantOpen(242, 245, 0)
	probe = wantOpen(245, 365, 1)

	// One that does not get as far as the credential says nothing of it.
	down := attempt(p, 246)
	down.Step = emailprovider.StepDial
	settle(t, s, outbox.Settlement{Lease: probe[0].Lease(), At: moment(246), State: outbox.Queued, Due: moment(246), Attempt: down})
	probe = wantOpen(366, 486, 1)

	// One that goes out on a session from before says nothing of it either.
	old := attempt(p, 367)
	old.Accepted, old.Steps = true, old.Steps[1:]
	settle(t, s, outbox.Settlement{Lease: probe[0].Lease(), At: moment(367), State: outbox.Queued, Due: moment(367), Attempt: old})
	probe = wantOpen(486, 606, 1)

	// One that was logged in before the refusal, and comes to its end only now, does not either.
	early := attempt(p, 1)
	early.Accepted, early.Ended = true, moment(487)
	settle(t, s, outbox.Settlement{Lease: probe[0].Lease(), At: moment(487), State: outbox.Queued, Due: moment(487), Attempt: early})
	probe = wantOpen(606, 726, 1)

	// The probe is logged in.
	ok := attempt(p, 607)
	ok.Step, ok.Code = emailprovider.StepRecipient, 550
	settle(t, s, outbox.Settlement{Lease: probe[0].Lease(), At: moment(607), State: outbox.Failed, Attempt: ok})
	c = claim(t, s, one, 607, 1)
	wantEqual(t, "a closed breaker", []any{len(c.Mails), c.Probe}, []any{1, time.Time{}})

	// Open again, and a new credential is not held up by what the old one has done.
	settle(t, s, refused(p, c.Mails[0], 608, 740))
	wantOpen(609, 740, 0)
	p = rotate(t, s, p)
	c = claim(t, s, one, 609, 1)
	wantEqual(t, "with a new credential", []any{len(c.Mails), c.Probe}, []any{1, time.Time{}})
	another := activate(t, s, one, 2)
	c = claim(t, s, one, 609, 1)
	wantEqual(t, "with another provider", []any{len(c.Mails), c.Provider.ID}, []any{1, another.ID})
}

// testProbes has many claimers at the moment when the breaker lets one mail through.
func testProbes(t *testing.T, open Opener) {
	s := open(t, one)
	p := activate(t, s, one, 1)
	const claimers = 12
	for range 2 * claimers {
		accept(t, s, plain(one, 0))
	}
	settle(t, s, refused(p, claim(t, s, one, 1, 1).Mails[0], 2, 2))
	for now := 122; now < 8*122; now += 122 { // while they live
		var all sync.WaitGroup
		var mu sync.Mutex
		var probes []outbox.ClaimedMail
		for range claimers {
			all.Go(func() {
				c, err := s.Claim(t.Context(), request(one, now, 9))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				probes = append(probes, c.Mails...)
			})
		}
		all.Wait()
		if len(probes) != 1 {
			t.Fatalf("%d mails were claimed, want one", len(probes))
		}
		settle(t, s, refused(p, probes[0], now+1, now+1))
	}
}

func testSuperseded(t *testing.T, open Opener) {
	s := open(t, one)
	p := activate(t, s, one, 1)
	wantDue := func(what string, m outbox.ClaimedMail, due int) {
		t.Helper()
		got, err := s.Message(t.Context(), one, m.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, what, []any{got.State, got.Due}, []any{outbox.Queued, moment(due)})
	}
	for range 4 {
		accept(t, s, plain(one, 0))
	}
	c := claim(t, s, one, 1, 4).Mails
	settle(t, s, refused(p, c[0], 2, 100))
	wantDue("refused with the present credential", c[0], 100)
	changed := rotate(t, s, p)
	settle(t, s, refused(p, c[1], 3, 100))
	wantDue("refused with a former credential", c[1], 3)
	down := attempt(p, 4)
	down.Step = emailprovider.StepDial
	settle(t, s, outbox.Settlement{Lease: c[2].Lease(), At: moment(4), State: outbox.Queued, Due: moment(100), Attempt: down})
	wantDue("not refused", c[2], 100)

	apply(t, s, emailprovider.EventUpdated, changed) // no longer what it was, but for the credential
	change := emailprovider.Change{Event: emailprovider.Event{Instance: one, Type: emailprovider.EventRemoved, ProviderID: p.ID}}
	stored, err := s.Provider(t.Context(), one, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	change.Expect = stored.Sequence
	if _, err := s.Apply(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	settle(t, s, refused(p, c[3], 5, 100))
	wantDue("of a provider that is gone", c[3], 5)
}
