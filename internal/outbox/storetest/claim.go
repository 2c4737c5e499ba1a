package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

func testClaim(t *testing.T, open Opener) {
	s := open(t, one)
	p := activate(t, s, one, 1)
	third, first, second := mail(one, 1), mail(one, 2), plain(one, 3)
	third.Due = moment(5)
	for _, m := range []outbox.Message{third, first, second} {
		accept(t, s, m)
	}
	wantClaimed(t, "before any is due", claim(t, s, one, 1, 9))
	c := claim(t, s, one, 5, 2)
	wantEqual(t, "provider", c.Provider, p)
	wantClaimed(t, "the longest due", c, first, second)
	for i, m := range []outbox.Message{first, second} {
		m.State, m.Changed, m.Due = outbox.Sending, moment(5), moment(5).Add(lease)
		wantEqual(t, "claimed mail", c.Mails[i], outbox.ClaimedMail{Message: m, Content: contentOf(m)})
		wantMessage(t, s, m)
	}
	wantClaimed(t, "the rest", claim(t, s, one, 5, 2), third)
	wantClaimed(t, "nothing", claim(t, s, one, 5, 2))

	testClaimMany(t, s)
}

// testClaimMany has more mails than a store may handle at once, several due at the same time.
func testClaimMany(t *testing.T, s Store) {
	const n = 137
	due := map[string]time.Time{}
	for i := range n {
		m := plain(one, 10)
		m.Due = moment(40 - i/10)
		due[accept(t, s, m).ID] = m.Due
	}
	c := claim(t, s, one, 40, n+1)
	wantEqual(t, "mails claimed", len(c.Mails), n)
	inOrder := slices.IsSortedFunc(c.Mails, func(a, b outbox.ClaimedMail) int { return due[a.ID].Compare(due[b.ID]) })
	wantEqual(t, "in the order of their due times", inOrder, true)
	settle(t, s, settlementsOf(c.Mails, outbox.Delivered, 41)...)
	wantClaimed(t, "after they were settled", claim(t, s, one, 41, 9))
}

func testLease(t *testing.T, open Opener) {
	s := open(t, one)
	activate(t, s, one, 1)
	m := accept(t, s, mail(one, 0))
	first := claimOne(t, s, one, 1) // until 61
	wantClaimed(t, "while the lease lasts", claim(t, s, one, 60, 9))
	extend := func(l outbox.Lease, n int, want ...outbox.Lease) {
		t.Helper()
		lost, err := s.Extend(t.Context(), []outbox.Lease{l}, moment(n))
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "leases lost", lost, want)
	}
	extend(first.Lease(), 100)
	m.State, m.Changed, m.Due = outbox.Sending, moment(1), moment(100)
	wantMessage(t, s, m)
	wantClaimed(t, "while the extended lease lasts", claim(t, s, one, 99, 9))

	next := claimOne(t, s, one, 100)
	if next.Version <= first.Version {
		t.Errorf("the fence went from %d to %d", first.Version, next.Version)
	}
	m.Due = moment(100).Add(lease)
	wantEqual(t, "mail claimed again", next.Message, m) // still sending, so not changed
	extend(first.Lease(), 1000, first.Lease())
	wantMessage(t, s, m)
	extend(next.Lease(), 170)

	// A fence is never used twice, whatever happened between.
	settle(t, s, settlementsOf([]outbox.ClaimedMail{next}, outbox.Queued, 110)...)
	extend(next.Lease(), 200, next.Lease())
	if again := claimOne(t, s, one, 120); again.Version <= next.Version {
		t.Errorf("the fence went from %d to %d", next.Version, again.Version)
	}
}

// testFreshProvider changes what a claim hands out in every way, and reads it before so that
// whatever a store keeps of it is kept.
func testFreshProvider(t *testing.T, open Opener) {
	s := open(t, one)
	n := 0
	wantProvider := func(what string, want emailprovider.Provider) {
		t.Helper()
		n++
		accept(t, s, plain(one, n))
		c := claim(t, s, one, n, 1)
		wantEqual(t, what, c.Provider, want)
		wantEqual(t, what+": mails", len(c.Mails), 1)
		if _, err := s.Provider(t.Context(), one, want.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Active(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	p := activate(t, s, one, 1)
	wantProvider("the active one", p)
	p = rotate(t, s, p)
	wantProvider("with a new credential", p)
	p.SMTP = &emailprovider.SMTP{SenderAddress: "b@example.com", Host: "other.example.com:465", TLS: true}
	p = apply(t, s, emailprovider.EventUpdated, p)
	wantProvider("with other settings", p)
	p = activate(t, s, one, 2)
	wantProvider("another one", p)
}

func testNoProvider(t *testing.T, open Opener) {
	s := open(t, one)
	m := accept(t, s, mail(one, 1))
	wantEqual(t, "claim without a provider", claim(t, s, one, 2, 9), outbox.Claim{})
	wantMessage(t, s, m)
	p := activate(t, s, one, 1)
	p.State = emailprovider.Inactive
	p = apply(t, s, emailprovider.EventDeactivated, p)
	wantEqual(t, "claim without an active provider", claim(t, s, one, 2, 9), outbox.Claim{})
	wantMessage(t, s, m)
	p.State = emailprovider.Active
	apply(t, s, emailprovider.EventActivated, p)
	wantClaimed(t, "with one", claim(t, s, one, 2, 9), m)
}

func testWaiting(t *testing.T, open Opener) {
	s := open(t, two, one)
	want := func(want ...outbox.Wait) {
		t.Helper()
		got, err := s.Waiting(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "Waiting", got, want)
	}
	want()
	p := activate(t, s, one, 1)
	accept(t, s, plain(two, 7))
	accept(t, s, plain(one, 9))
	accept(t, s, plain(one, 8))
	want(outbox.Wait{Instance: one, Due: moment(8), Sequence: p.Sequence}, outbox.Wait{Instance: two, Due: moment(7)})
	p = rotate(t, s, p)
	want(outbox.Wait{Instance: one, Due: moment(8), Sequence: p.Sequence}, outbox.Wait{Instance: two, Due: moment(7)})
	c := claim(t, s, one, 9, 9)
	want(outbox.Wait{Instance: one, Due: moment(9).Add(lease), Sequence: p.Sequence}, outbox.Wait{Instance: two, Due: moment(7)})
	settle(t, s, settlementsOf(c.Mails[:1], outbox.Queued, 20)...)
	want(outbox.Wait{Instance: one, Due: moment(20), Sequence: p.Sequence}, outbox.Wait{Instance: two, Due: moment(7)})
	settle(t, s, settlementsOf(c.Mails[1:], outbox.Delivered, 20)...)
	want(outbox.Wait{Instance: one, Due: moment(20), Sequence: p.Sequence}, outbox.Wait{Instance: two, Due: moment(7)})
	settle(t, s, settlementsOf(claim(t, s, one, 20, 9).Mails, outbox.Failed, 20)...)
	want(outbox.Wait{Instance: two, Due: moment(7)})
}

func testExpire(t *testing.T, open Opener) {
	s := open(t, one)
	activate(t, s, one, 1)
	expire := func(n, limit int, keep bool) []outbox.Message {
		t.Helper()
		expired, err := s.Expire(t.Context(), one, moment(n), limit, keep)
		if err != nil {
			t.Fatalf("Expire: %v", err)
		}
		return expired
	}
	sending, longer := mail(one, 0), mail(one, 1)
	sending.Expires, longer.Expires = moment(50), moment(10_000)
	accept(t, s, sending)
	held := claimOne(t, s, one, 0) // until 60
	accept(t, s, longer)
	for i := range 60 {
		m := plain(one, i%40)
		m.Expires = moment(40)
		accept(t, s, m)
	}
	wantEqual(t, "before the end", len(expire(39, 99, false)), 0)
	wantClaimed(t, "mails whose life is over are not handed out", claim(t, s, one, 40, 99), longer)
	first, rest := expire(59, 1, true), expire(59, 99, false)
	wantEqual(t, "expired", [2]int{len(first), len(rest)}, [2]int{1, 59})
	for i, m := range append(first, rest...) {
		_, err := s.Content(t.Context(), one, m.ID)
		if kept := err == nil; kept != (i == 0) {
			t.Errorf("the content of expired mail %d is kept: %t (%v)", i, kept, err)
		}
		wantEqual(t, "state and time", []any{m.State, m.Changed, m.Due}, []any{outbox.Expired, moment(59), time.Time{}})
		wantMessage(t, s, m)
	}
	wantEqual(t, "the one whose lease has passed", len(expire(60, 99, false)), 1)
	refused, err := s.Settle(t.Context(), settlementsOf([]outbox.ClaimedMail{held}, outbox.Delivered, 61))
	if err != nil || len(refused) != 1 {
		t.Errorf("Settle of an expired mail: %v refused, %v", refused, err)
	}
	wantEqual(t, "again", len(expire(70, 99, false)), 0)
}
