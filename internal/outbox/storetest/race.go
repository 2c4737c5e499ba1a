package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

func compareIDs(a, b outbox.Message) int { return cmp.Compare(a.ID, b.ID) }

func sameAddress(a, b string) bool { return strings.EqualFold(a, b) }

// acceptMany takes n mails from several callers at once.
func acceptMany(t *testing.T, s Store, n int) {
	t.Helper()
	const callers = 8
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := range n / callers {
				m := plain(one, i%10)
				if _, err := s.Accept(t.Context(), m, contentOf(m)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// testConcurrentClaims has claimers who empty a queue together: each mail is claimed once.
func testConcurrentClaims(t *testing.T, open Opener) {
	s := open(t, one)
	activate(t, s, one, 1)
	const claimers, each = 8, 500
	acceptMany(t, s, claimers*each)
	var (
		claimed sync.Map
		total   atomic.Int64
		all     sync.WaitGroup
	)
	drain := func() error {
		for {
			c, err := s.Claim(t.Context(), request(one, 10, 37))
			if err != nil || len(c.Mails) == 0 {
				return err
			}
			for _, m := range c.Mails {
				if _, twice := claimed.LoadOrStore(m.ID, true); twice {
					return fmt.Errorf("mail %s was claimed twice", m.ID)
				}
			}
			total.Add(int64(len(c.Mails)))
			if refused, err := s.Settle(t.Context(), settlementsOf(c.Mails, outbox.Delivered, 11)); err != nil || len(refused) > 0 {
				return fmt.Errorf("settle: %v refused, %w", refused, err)
			}
		}
	}
	for range claimers {
		all.Go(func() {
			if err := drain(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantEqual(t, "mails claimed", total.Load(), int64(claimers*each))
}

// testConservation counts the mails while they are claimed, settled in every way, cancelled and
// expired: none is ever missing or counted twice, and in the end all are settled.
func testConservation(t *testing.T, open Opener) {
	s := open(t, one)
	activate(t, s, one, 1)
	const mails = 240
	acceptMany(t, s, mails)
	states := func() map[outbox.State]int {
		all, err := s.Messages(t.Context(), one, outbox.Filter{Limit: 2 * mails})
		if err != nil {
			t.Error(err)
		}
		seen := map[outbox.State]int{}
		for _, m := range all {
			seen[m.State]++
		}
		if len(all) != mails {
			t.Errorf("%d mails: %v", len(all), seen)
		}
		return seen
	}
	settled := func(seen map[outbox.State]int) bool { return seen[outbox.Queued]+seen[outbox.Sending] == 0 }
	var all sync.WaitGroup
	for worker := range 6 {
		all.Go(func() {
			for n := 0; !settled(states()) && !t.Failed(); n++ {
				if err := change(t, s, worker, n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	wantEqual(t, "states of mails that may have ended by any of these", len(states()), 4)
}

// change does what one kind of caller does.
func change(t *testing.T, s Store, worker, n int) error {
	now := 20 + n
	switch worker {
	case 0: // cancels
		waiting, err := s.Messages(t.Context(), one, outbox.Filter{States: []outbox.State{outbox.Queued}, Limit: 3})
		for _, m := range waiting {
			_, e := s.Cancel(t.Context(), one, m.ID, moment(now), false)
			if !errors.Is(e, outbox.ErrState) { // claimed meanwhile
				err = errors.Join(err, e)
			}
		}
		return err
	case 1: // lets a few die
		_, err := s.Expire(t.Context(), one, moment(100_000), 2, false)
		return err
	}
	c, err := s.Claim(t.Context(), request(one, now, 5))
	ends := []outbox.State{outbox.Delivered, outbox.Failed, outbox.Queued}
	_, e := s.Settle(t.Context(), settlementsOf(c.Mails, ends[n%len(ends)], now))
	return errors.Join(err, e)
}
