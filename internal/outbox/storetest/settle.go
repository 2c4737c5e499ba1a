package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// wantAttempts fails unless the mail has exactly these, whose numbers it gives.
func wantAttempts(t *testing.T, s Store, m outbox.Message, want ...*outbox.Attempt) {
	t.Helper()
	got, err := s.Attempts(t.Context(), m.Instance, m.ID)
	if err != nil {
		t.Fatalf("Attempts: %v", err)
	}
	var numbered []outbox.Attempt
	for i, a := range want {
		a := *a
		a.Number = i + 1
		numbered = append(numbered, a)
	}
	wantEqual(t, "Attempts", got, numbered)
}

func wantContent(t *testing.T, s Store, m outbox.Message, kept bool) {
	t.Helper()
	_, err := s.Content(t.Context(), m.Instance, m.ID)
	if kept && err != nil || !kept && !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("Content of mail %s, %s: %v; kept is to be %t", m.ID, m.State, err, kept)
	}
}

// failing is an attempt in which every field is set.
func failing(p emailprovider.Provider, n int) *outbox.Attempt {
	a := attempt(p, n)
	a.Number = n
	a.Step, a.Code, a.Text = emailprovider.StepRecipient, 451, "4.7.1 später, bitte"
	a.Steps = []emailprovider.StepTime{
		{Step: emailprovider.StepDial, Took: 3 * time.Millisecond}, {Step: emailprovider.StepRecipient, Took: 1},
	}
	return a
}

func testSettle(t *testing.T, open Opener) {
	s := open(t, one)
	p := activate(t, s, one, 1)
	m := accept(t, s, mail(one, 1))

	held := claimOne(t, s, one, 2)
	soft := failing(p, 1)
	settle(t, s, outbox.Settlement{
		Lease: held.Lease(), At: moment(3), State: outbox.Queued, Reason: "451 später", Due: moment(10), Attempt: soft,
	})
	m.Reason, m.Changed, m.Due = "451 später", moment(3), moment(10)
	m.Attempts, m.ProviderID, m.CredentialVersion = 1, p.ID, 1
	wantMessage(t, s, m)
	wantAttempts(t, s, m, soft)
	wantContent(t, s, m, true)

	// A mail that was claimed, and not tried.
	held = claimOne(t, s, one, 10)
	wantEqual(t, "attempts of the claimed mail", held.Attempts, 1)
	settle(t, s, outbox.Settlement{Lease: held.Lease(), At: moment(11), State: outbox.Queued, Due: moment(12)})
	m.Reason, m.Changed, m.Due = "", moment(11), moment(12)
	wantMessage(t, s, m)
	wantAttempts(t, s, m, soft)

	p = rotate(t, s, p)
	held = claimOne(t, s, one, 12)
	half := attempt(p, 13)
	half.Accepted, half.Code, half.Text = true, 250, "2.0.0 OK"
	m.Recipients[0].State, m.Recipients[0].Code = outbox.Accepted, 250
	m.Recipients[1] = outbox.Recipient{Address: "B@example.com", Kind: outbox.Bcc, State: outbox.Refused, Code: 550, Text: "5.1.1 unknown"}
	settle(t, s, outbox.Settlement{
		Lease: held.Lease(), At: moment(13), State: outbox.Failed, Reason: "550", Recipients: m.Recipients, Attempt: half,
	})
	m.State, m.Reason, m.Changed, m.Due, m.Attempts, m.CredentialVersion = outbox.Failed, "550", moment(13), time.Time{}, 2, 2
	wantMessage(t, s, m)
	wantAttempts(t, s, m, soft, half)
	wantContent(t, s, m, false)
	testSettleMany(t, s, p)
}

// testSettleMany settles a batch with every final state, keeping half of the contents.
func testSettleMany(t *testing.T, s Store, p emailprovider.Provider) {
	finals := []outbox.State{outbox.Delivered, outbox.Failed, outbox.Expired}
	for i := range 120 {
		accept(t, s, plain(one, 20+i%7))
	}
	var all []outbox.Settlement
	for i, m := range claim(t, s, one, 30, 200).Mails {
		all = append(all, outbox.Settlement{
			Lease: m.Lease(), At: moment(31), State: finals[i%3], Attempt: failing(p, 31), Keep: i%2 == 0,
		})
	}
	wantEqual(t, "mails claimed", len(all), 120)

	impossible := all[len(all)-1]
	for _, impossible.State = range []outbox.State{outbox.Sending, outbox.Cancelled} {
		broken := append(all[:len(all)-1:len(all)-1], impossible)
		if _, err := s.Settle(t.Context(), broken); err == nil {
			t.Errorf("a mail was settled as %s", impossible.State)
		}
	}
	if lost, err := s.Extend(t.Context(), []outbox.Lease{all[0].Lease}, moment(99)); err != nil || len(lost) > 0 {
		t.Errorf("a part of a batch that failed was recorded: %v lost, %v", lost, err)
	}
	settle(t, s, all...)
	for _, x := range all {
		m, err := s.Message(t.Context(), one, x.ID)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "state", m.State, x.State)
		wantContent(t, s, m, x.Keep)
		wantAttempts(t, s, m, x.Attempt)
	}
}

func testFence(t *testing.T, open Opener) {
	s := open(t, one)
	p := activate(t, s, one, 1)
	m, other := accept(t, s, mail(one, 0)), mail(one, 100)
	accept(t, s, other)
	refuse := func(what string, n int, held outbox.ClaimedMail) {
		t.Helper()
		for _, state := range []outbox.State{outbox.Queued, outbox.Delivered, outbox.Failed, outbox.Expired} {
			refused, err := s.Settle(t.Context(), []outbox.Settlement{{
				Lease: held.Lease(), At: moment(n), State: state, Reason: "stale", Due: moment(1), Attempt: failing(p, n),
				CredentialRefused: state == outbox.Queued,
			}})
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, what+" settled as "+string(state)+": refused", refused, []outbox.Lease{held.Lease()})
		}
		wantAttempts(t, s, m)
		if uses, err := s.CredentialUses(t.Context(), one, p.ID, 9); err != nil || len(uses) > 0 {
			t.Errorf("%s: uses %v, %v", what, uses, err)
		}
	}
	stale := claimOne(t, s, one, 1)
	fresh := claimOne(t, s, one, 70)
	m.State, m.Changed, m.Due = outbox.Sending, moment(1), moment(70).Add(lease)
	refuse("a mail that another worker has", 71, stale)
	wantMessage(t, s, m)
	wantContent(t, s, m, true)

	unknown := fresh
	unknown.ID = outbox.NewID(moment(1))
	refuse("an unknown mail", 71, unknown)
	waiting := outbox.ClaimedMail{Message: other}
	refuse("a mail that nobody has", 71, waiting)

	// One that is refused does not keep the others back.
	c := claim(t, s, one, 100, 9)
	all := settlementsOf([]outbox.ClaimedMail{stale, fresh, c.Mails[0]}, outbox.Delivered, 101)
	refused, err := s.Settle(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "refused of three", refused, []outbox.Lease{stale.Lease()})
	m.State, m.Changed, m.Due = outbox.Delivered, moment(101), time.Time{}
	wantMessage(t, s, m)
	refuse("a settled mail", 102, fresh)
	wantMessage(t, s, m)
}

func testCancel(t *testing.T, open Opener) {
	s := open(t, one)
	activate(t, s, one, 1)
	for _, keep := range []bool{false, true} {
		m := accept(t, s, plain(one, 1))
		for n := range 2 { // The second time changes nothing.
			got, err := s.Cancel(t.Context(), one, m.ID, moment(5+n), keep)
			if err != nil {
				t.Fatalf("Cancel: %v", err)
			}
			m.State, m.Changed, m.Due = outbox.Cancelled, moment(5), time.Time{}
			wantEqual(t, "Cancel", got, m)
			wantMessage(t, s, m)
			wantContent(t, s, m, keep)
		}
	}
	if _, err := s.Cancel(t.Context(), one, outbox.NewID(moment(1)), moment(2), false); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("Cancel of an unknown mail: %v, want ErrNotFound", err)
	}
	wantClaimed(t, "cancelled mails", claim(t, s, one, 9, 9))
	accept(t, s, plain(one, 1))
	held := claimOne(t, s, one, 9)
	for _, state := range []outbox.State{outbox.Sending, outbox.Delivered, outbox.Failed, outbox.Expired} {
		if state != outbox.Sending {
			settle(t, s, settlementsOf([]outbox.ClaimedMail{held}, state, 10)...)
		}
		if _, err := s.Cancel(t.Context(), one, held.ID, moment(11), false); !errors.Is(err, outbox.ErrState) {
			t.Errorf("Cancel of a mail that is %s: %v, want ErrState", state, err)
		}
		if state != outbox.Sending {
			accept(t, s, plain(one, 1))
			held = claimOne(t, s, one, 9)
		}
	}
}

func testRequeue(t *testing.T, open Opener) {
	s := open(t, one)
	p := activate(t, s, one, 1)
	m := mail(one, 1)
	m.Due = moment(500)
	accept(t, s, m)
	requeue := func(n, expires int) (outbox.Message, error) {
		return s.Requeue(t.Context(), one, m.ID, moment(n), moment(expires))
	}
	got, err := requeue(5, 9000)
	m.Due = moment(5)
	wantEqual(t, "Requeue of a queued mail", []any{got, err}, []any{m, nil})
	wantMessage(t, s, m)

	for _, state := range []outbox.State{outbox.Failed, outbox.Expired} {
		held := claimOne(t, s, one, 5)
		if _, err := requeue(6, 9000); !errors.Is(err, outbox.ErrState) {
			t.Errorf("Requeue of a mail being sent: %v, want ErrState", err)
		}
		refused := []outbox.Recipient{m.Recipients[0], m.Recipients[1]}
		refused[0].State, refused[0].Code = outbox.Accepted, 250
		refused[1].State, refused[1].Code, refused[1].Text = outbox.Refused, 550, "no"
		settle(t, s, outbox.Settlement{
			Lease: held.Lease(), At: moment(6), State: state, Reason: "550 no", Recipients: refused, Attempt: failing(p, 6), Keep: true,
		})
		got, err := requeue(7, 9000)
		if err != nil {
			t.Fatalf("Requeue of a mail that is %s: %v", state, err)
		}
		m.Attempts++
		m.ProviderID, m.CredentialVersion, m.Recipients = p.ID, 1, []outbox.Recipient{refused[0], m.Recipients[1]}
		m.State, m.Changed, m.Due, m.Expires = outbox.Queued, moment(7), moment(7), moment(9000)
		wantEqual(t, "Requeue of a mail that is "+string(state), got, m)
		wantMessage(t, s, m)
		m.Due = moment(4)
		if _, err := requeue(4, 1); err != nil {
			t.Fatal(err)
		}
		wantMessage(t, s, m)
	}
	wantAttempts(t, s, m, failing(p, 6), failing(p, 6))

	settle(t, s, settlementsOf([]outbox.ClaimedMail{claimOne(t, s, one, 8)}, outbox.Failed, 9)...)
	if _, err := requeue(10, 9000); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("Requeue of a mail without content: %v, want ErrNotFound", err)
	}
	m = accept(t, s, plain(one, 1))
	settle(t, s, settlementsOf([]outbox.ClaimedMail{claimOne(t, s, one, 8)}, outbox.Delivered, 9)...)
	if _, err := requeue(10, 9000); !errors.Is(err, outbox.ErrState) {
		t.Errorf("Requeue of a delivered mail: %v, want ErrState", err)
	}
	m.ID = outbox.NewID(moment(1))
	if _, err := requeue(10, 9000); !errors.Is(err, outbox.ErrNotFound) {
		t.Errorf("Requeue of an unknown mail: %v, want ErrNotFound", err)
	}
}
