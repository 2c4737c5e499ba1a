// Package storetest is the contract of deprecation.Store as a test suite.
package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailkeep/mailkeep/internal/deprecation"
)

// Opener returns a fresh store that has the instances named, without uses.
type Opener func(t *testing.T, instances ...string) deprecation.Store

// Run holds the stores that open returns to the contract. A store may keep times to the
// microsecond.
func Run(t *testing.T, open Opener) {
	t.Run("Uses", func(t *testing.T) { testUses(t, open(t, one, two)) })
	t.Run("Aggregate", func(t *testing.T) { testAggregate(t, open(t, one)) })
	t.Run("MaxAgents", func(t *testing.T) { testMaxAgents(t, open(t, one)) })
	t.Run("Unknown", func(t *testing.T) { testUnknown(t, open(t, one)) })
	t.Run("Concurrent", func(t *testing.T) { testConcurrent(t, open(t, one)) })
}

const (
	one = "instance-1"
	two = "instance-2"
)

func day(n int) time.Time { return time.Date(2030, 1, n, 0, 0, 0, 1000, time.UTC) }

func use(instance, method, caller, agent string, first, last int) deprecation.Use {
	return deprecation.Use{
		Instance: instance, Method: method, Caller: caller, UserAgent: agent,
		Calls: 2, First: day(first), Last: day(last),
	}
}

func add(t *testing.T, s deprecation.Store, uses ...deprecation.Use) {
	t.Helper()
	if err := s.AddUses(t.Context(), uses); err != nil {
		t.Fatalf("AddUses: %v", err)
	}
}

func wantUses(t *testing.T, s deprecation.Store, instance string, want ...deprecation.Use) {
	t.Helper()
	got, err := s.Uses(t.Context(), instance)
	if err != nil {
		t.Fatalf("Uses: %v", err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Uses of %s (-want +got):\n%s", instance, diff)
	}
}

func testUses(t *testing.T, s deprecation.Store) {
	add(t, s)
	wantUses(t, s, one)
	latest := use(one, "Z", "z", "z", 1, 9)
	a, b, c, d := use(one, "A", "a", "a", 1, 5), use(one, "A", "a", "b", 2, 5), use(one, "A", "b", "a", 3, 5), use(one, "B", "a", "a", 4, 5)
	earliest := use(one, "A", "", "", 1, 2)
	theirs := use(two, "A", "a", "a", 1, 5)
	add(t, s, earliest, d, c, theirs, b, a, latest)
	wantUses(t, s, one, latest, a, b, c, d, earliest)
	wantUses(t, s, two, theirs)
	wantUses(t, s, "instance-3")
}

func testAggregate(t *testing.T, s deprecation.Store) {
	add(t, s, use(one, "A", "a", "a", 4, 5))
	earlier, later, inside := use(one, "A", "a", "a", 1, 2), use(one, "A", "a", "a", 8, 9), use(one, "A", "a", "a", 4, 4)
	add(t, s, earlier, later)
	add(t, s, inside)
	want := use(one, "A", "a", "a", 1, 9)
	want.Calls = 8
	wantUses(t, s, one, want)
}

// testMaxAgents has a caller with a new user agent each time, and one with few.
func testMaxAgents(t *testing.T, s deprecation.Store) {
	const beyond = 50
	for n := range deprecation.MaxAgents + beyond {
		add(t, s, use(one, "A", "many", fmt.Sprint("agent ", n), 1, 1))
	}
	add(t, s, use(one, "A", "many", "agent 1", 1, 1), use(one, "A", "few", "agent", 1, 1), use(one, "B", "many", "agent", 1, 1))
	calls := map[string]uint64{}
	uses, err := s.Uses(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uses {
		calls[u.Method+" "+u.Caller+" "+u.UserAgent] += u.Calls
	}
	// Each use counts two calls.
	want := map[string]uint64{"A many " + deprecation.Other: 2 * beyond, "A many agent 1": 4, "A many agent 99": 2, "A many agent 100": 0, "A few agent": 2, "B many agent": 2}
	for name, n := range want {
		if calls[name] != n {
			t.Errorf("%s: %d calls, want %d", name, calls[name], n)
		}
	}
	if len(uses) != deprecation.MaxAgents+3 {
		t.Errorf("%d entries", len(uses))
	}
}

// testUnknown adds uses of an instance that was removed, which keep nobody else's from being stored.
func testUnknown(t *testing.T, s deprecation.Store) {
	add(t, s, use(one, "A", "a", "a", 1, 1), use("unknown", "A", "a", "a", 1, 1))
	wantUses(t, s, one, use(one, "A", "a", "a", 1, 1))
	wantUses(t, s, "unknown")
}

func testConcurrent(t *testing.T, s deprecation.Store) {
	const callers = 20
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() {
			if err := s.AddUses(t.Context(), []deprecation.Use{use(one, "A", "a", "a", 1+n, 1+n)}); err != nil {
				t.Errorf("AddUses: %v", err)
			}
		})
	}
	all.Wait()
	want := use(one, "A", "a", "a", 1, callers)
	want.Calls = 2 * callers
	wantUses(t, s, one, want)
}
