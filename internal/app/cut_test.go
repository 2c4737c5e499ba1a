package app_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/faultproxy"
)

// cut is something that a network does between replicas and their primary.
type cut struct {
	name    string
	fault   faultproxy.Fault
	latency time.Duration
}

// cuts are all there are; those that are quick to show what matters come first.
var cuts = []cut{
	{"drop", faultproxy.Drop, 0}, {"lost answers", faultproxy.DropAnswers, 0}, {"latency", faultproxy.Pass, 150 * time.Millisecond}, {"reset", faultproxy.Reset, 0},
	{"lost requests", faultproxy.DropRequests, 0}, {"stall", faultproxy.Stall, 0}, {"half open, client gone", faultproxy.LoseClient, 0},
	{"half open, server gone", faultproxy.LoseServer, 0}, {"refuse", faultproxy.Refuse, 0},
}

// cutOff cuts replicas off from their primary under load, in one way after another.
// It ends early when that is enough.
func cutOff(t *testing.T, cuts []cut, wrap func(app.Store) app.Store, enough func() bool) verdict {
	t.Helper()
	s := startServers(t, false)
	f := startFleet(t, 3, s.url(), func(_ int, c *app.Config) { c.WrapStore = wrap })
	inbox := friendly(t)
	j := newJournal(t, f.any)
	j.load(inbox.Addr(), 12, 6)
	line := s.at[s.primary]
	for _, c := range cuts {
		j.more(50, soon)
		line.SetLatency(c.latency)
		s.must(line.Set(c.fault))
		before := j.acknowledged()
		j.more(1<<20, 2500*time.Millisecond)
		meanwhile := j.acknowledged() - before
		line.SetLatency(0)
		s.must(line.Set(faultproxy.Pass))
		recovery := j.recovered(f.urls())
		t.Logf("REL cut %q: acknowledged_meanwhile=%d recovery_ms=%d slowest_ms=%d", c.name, meanwhile, recovery.Milliseconds(), j.slowestYet().Milliseconds())
		if enough() {
			break
		}
		if recovery > answerTime+slack {
			t.Errorf("%s: it took %s to go on", c.name, recovery)
		}
	}
	j.stop()
	s.quiet()
	v := j.judge(s.db())
	t.Logf("REL cuts n=%d slowest_ms=%d; %v", len(cuts), j.slowest.Milliseconds(), v)
	return v
}

// TestCuts: whatever the network between replicas and their primary does, each call is answered in time and
// truly, and everything goes on by itself soon.
func TestCuts(t *testing.T) {
	t.Parallel()
	if v := cutOff(t, cuts[:atLength(3, len(cuts))], nil, func() bool { return false }); !v.clean() || v.unknown == 0 {
		t.Error("the promise is broken, or it was hardly looked at")
	}
}

// TestCutsAreMeasured sees that the test above would notice a change that is said to be made and is not.
func TestCutsAreMeasured(t *testing.T) {
	t.Parallel()
	lost := slices.Repeat([]cut{{"lost requests", faultproxy.DropRequests, 0}}, 10)
	var believed atomic.Int64
	wrap := func(s app.Store) app.Store { return credulous{s, &believed} }
	if v := cutOff(t, lost, wrap, func() bool { return believed.Load() > 0 }); v.lost == 0 {
		t.Error("it was not noticed")
	}
}
