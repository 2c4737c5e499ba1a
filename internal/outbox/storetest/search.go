package storetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// testMessages holds every combination of filters to what a loop over all mails finds.
func testMessages(t *testing.T, open Opener) {
	s := open(t, one)
	a := activate(t, s, one, 1)
	all := manyMails(t, s)
	b := activate(t, s, one, 2)
	for n, state := range []outbox.State{outbox.Delivered, outbox.Failed, outbox.Expired, outbox.Queued} {
		p := []string{a.ID, b.ID}[n%2]
		for _, m := range claim(t, s, one, 100, 7).Mails {
			tried := attempt(a, 101)
			tried.ProviderID = p
			settle(t, s, outbox.Settlement{Lease: m.Lease(), At: moment(101), State: state, Due: moment(200), Attempt: tried})
		}
	}
	claim(t, s, one, 100, 7)
	for _, m := range claim(t, s, one, 200, 5).Mails {
		settle(t, s, settlementsOf([]outbox.ClaimedMail{m}, outbox.Queued, 300)...)
		if _, err := s.Cancel(t.Context(), one, m.ID, moment(300), false); err != nil {
			t.Fatal(err)
		}
	}
	states := map[outbox.State]int{}
	for i := range all {
		m, err := s.Message(t.Context(), one, all[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = m
		states[m.State]++
	}
	wantEqual(t, "number of states among the mails", len(states), len(outbox.States()))
	slices.SortFunc(all, func(x, y outbox.Message) int { return -compareIDs(x, y) })
	for _, f := range filters(a.ID, b.ID) {
		wantPages(t, s, all, f)
	}
}

// manyMails accepts mails with and without each thing that can be searched for.
func manyMails(t *testing.T, s Store) (all []outbox.Message) {
	t.Helper()
	for i := range 60 {
		m := mail(one, i/2) // two at a time
		m.IdempotencyKey = ""
		m.Tag = []string{"", "a", "b"}[i%3]
		m.Recipients = []outbox.Recipient{{Address: "x@example.com", Kind: outbox.To, State: outbox.Pending}}
		switch i % 4 {
		case 1:
			m.Recipients[0].Address = "Y@Example.com"
		case 2:
			m.Recipients = append(m.Recipients, outbox.Recipient{Address: "y@example.COM", Kind: outbox.Cc, State: outbox.Pending})
		case 3: // the same in other letters, twice
			m.Recipients = append(m.Recipients,
				outbox.Recipient{Address: "X@example.com", Kind: outbox.Cc, State: outbox.Pending},
				outbox.Recipient{Address: "X@EXAMPLE.com", Kind: outbox.Bcc, State: outbox.Pending})
		}
		all = append(all, accept(t, s, m))
	}
	return all
}

func filters(providers ...string) (all []outbox.Filter) {
	states := [][]outbox.State{
		nil, outbox.States(), {outbox.Queued, outbox.Failed}, {outbox.Delivered, outbox.Cancelled},
		{outbox.Cancelled, outbox.Expired}, {outbox.Queued, outbox.Sending},
	}
	for _, state := range outbox.States() {
		states = append(states, []outbox.State{state})
	}
	for _, s := range states {
		for _, tag := range []string{"", "a", "none"} {
			for _, recipient := range []string{"", "Y@example.com", "x@EXAMPLE.com", "none@example.com"} {
				for _, provider := range append(providers, "") {
					all = append(all, outbox.Filter{States: s, Tag: tag, Recipient: recipient, ProviderID: provider})
				}
			}
		}
	}
	for _, f := range []outbox.Filter{{}, {Tag: "a"}, {Recipient: "y@example.com"}, {States: []outbox.State{outbox.Failed}}} {
		f.From = moment(5)
		all = append(all, f)
		f.Before = moment(20)
		all = append(all, f)
		f.From = f.Before
		all = append(all, f)
	}
	return all
}

// wantPages reads the mails that match in pages of two sizes.
func wantPages(t *testing.T, s Store, all []outbox.Message, f outbox.Filter) {
	t.Helper()
	var want []outbox.Message
	for _, m := range all {
		if matches(m, f) {
			want = append(want, m)
		}
	}
	for _, f.Limit = range []int{100, 4} {
		var got []outbox.Message
		for f.After = ""; ; f.After = got[len(got)-1].ID {
			page, err := s.Messages(t.Context(), one, f)
			if err != nil {
				t.Fatalf("Messages %+v: %v", f, err)
			}
			got = append(got, page...)
			if len(page) < f.Limit || len(got) > len(all) {
				break
			}
		}
		wantEqual(t, fmt.Sprintf("Messages %+v", f), got, want)
	}
}

// matches is what a filter means.
func matches(m outbox.Message, f outbox.Filter) bool {
	y := func(r outbox.Recipient) bool { return sameAddress(r.Address, f.Recipient) }
	return (len(f.States) == 0 || slices.Contains(f.States, m.State)) &&
		(f.Tag == "" || m.Tag == f.Tag) &&
		(f.Recipient == "" || slices.ContainsFunc(m.Recipients, y)) &&
		(f.ProviderID == "" || m.ProviderID == f.ProviderID) &&
		(f.From.IsZero() || !m.Created.Before(f.From)) &&
		(f.Before.IsZero() || m.Created.Before(f.Before))
}
