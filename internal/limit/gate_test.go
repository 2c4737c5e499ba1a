package limit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// enter is Enter of one that must get in, or must not, at once.
func enter(t *testing.T, g *Gate, key string, want bool) {
	t.Helper()
	if got := g.Enter(t.Context(), key, 0); got != want {
		t.Errorf("%s got in: %v", key, got)
	}
}

// TestShares: who is alone gets four fifths, and whoever comes finds a slot.
func TestShares(t *testing.T) {
	g := NewGate(100, 0, 0)
	for range 80 {
		enter(t, g, "hog", true)
	}
	enter(t, g, "hog", false)
	for n := range 16 {
		enter(t, g, fmt.Sprint("other ", n%2), true)
	}
	for range 80 {
		g.Leave("hog")
	}
	for n := range 16 {
		g.Leave(fmt.Sprint("other ", n%2))
	}
	if g.in != 0 || len(g.shares) != 0 {
		t.Errorf("%d are in and %d shares are kept when all have left", g.in, len(g.shares))
	}
}

// TestMost: a key has no more than its own bound, and does not wait for what only its own calls can give.
func TestMost(t *testing.T) {
	g := NewGate(100, 10, time.Hour)
	for n := range 5 {
		if got := g.Enter(t.Context(), "k", 3); got != (n < 3) {
			t.Errorf("call %d got in: %v", n, got)
		}
	}
	if n := g.In("k"); n != 3 {
		t.Errorf("%d are in", n)
	}
}

// TestTurns: those in line are let in by turns of their keys, whoever came first.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1, 100, time.Hour)
		enter(t, g, "first", true)
		var mu sync.Mutex
		var order []string
		line := func(key string, n int) {
			for range n {
				go func() {
					if !g.Enter(t.Context(), key, 0) {
						t.Errorf("%s was refused", key)
						return
					}
					mu.Lock()
					order = append(order, key)
					mu.Unlock()
					g.Leave(key)
				}()
			}
			synctest.Wait()
		}
		line("hog", 50)
		line("a", 2)
		line("b", 1)
		g.Leave("first")
		synctest.Wait()
		if got := strings.Join(order[:6], " "); got != "hog a b hog a hog" {
			t.Errorf("the first in were %s", got)
		}
		if len(order) != 53 || g.in != 0 || g.waiting != 0 || len(g.shares) != 0 {
			t.Errorf("%d got in; %d are, %d wait, %d shares are left", len(order), g.in, g.waiting, len(g.shares))
		}
	})
}

// TestLine: it is bounded in length and time, and one key can't have all of it.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1, 10, time.Second)
		enter(t, g, "first", true)
		var mu sync.Mutex
		refused := map[string][]time.Duration{}
		start := time.Now()
		line := func(ctx context.Context, key string, n int) {
			for range n {
				go func() {
					if g.Enter(ctx, key, 0) {
						t.Errorf("%s got in", key)
					}
					mu.Lock()
					defer mu.Unlock()
					refused[key] = append(refused[key], time.Since(start))
				}()
			}
			synctest.Wait()
		}
		count := func(key string) int {
			mu.Lock()
			defer mu.Unlock()
			return len(refused[key])
		}
		line(t.Context(), "hog", 12)
		if n := count("hog"); n != 2 {
			t.Errorf("%d of 12 were refused at once", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		line(ctx, "polite", 3)
		if hog, polite := count("hog"), count("polite"); hog != 5 || polite != 0 {
			t.Errorf("refused at once: %d and %d", hog, polite)
		}
		cancel()
		synctest.Wait()
		if count("polite") != 3 {
			t.Error("calls wait whose callers went away")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if n := len(refused["hog"]); n != 12 || slices.Max(refused["hog"]) != time.Second {
			t.Errorf("refused in the end: %v", refused["hog"])
		}
		g.Leave("first")
		if len(g.shares) != 0 || g.waiting != 0 || len(g.hungry) != 0 {
			t.Errorf("left in line: %d", g.waiting)
		}
	})
}

// latencies runs calls of 10 ms, by key as many clients as crowd says, each one call after the other, on four
// machines' worth of slots, and returns the 99th percentile of the time that each key's calls took.
func latencies(t *testing.T, g interface {
	Enter(ctx context.Context, key string, most int) bool
	Leave(key string)
}, crowd map[string]int) map[string]time.Duration {
	t.Helper()
	const work, length = 10 * time.Millisecond, 5 * time.Second
	var mu sync.Mutex
	var group sync.WaitGroup
	took := map[string][]time.Duration{}
	end := time.Now().Add(length)
	for key, clients := range crowd {
		for range clients {
			group.Go(func() {
				for time.Now().Before(end) {
					start := time.Now()
					if !g.Enter(t.Context(), key, 0) {
						time.Sleep(work)
						continue
					}
					time.Sleep(work)
					g.Leave(key)
					mu.Lock()
					took[key] = append(took[key], time.Since(start))
					mu.Unlock()
				}
			})
		}
	}
	group.Wait()
	p99 := map[string]time.Duration{}
	for key, all := range took {
		slices.Sort(all)
		p99[key] = all[len(all)*99/100]
	}
	return p99
}

// queue is what a semaphore would be: first come, first served.
type queue chan struct{}

func (q queue) Enter(context.Context, string, int) bool { q <- struct{}{}; return true }
func (q queue) Leave(string)                            { <-q }

// TestFairness: in time that passes only when all wait, one instance with hundreds of calls at a time does not
// slow another's. Red control: a plain queue does.
func TestFairness(t *testing.T) {
	const slots = 20
	crowd := map[string]int{"hog": 400, "quiet": 2}
	var alone, fair, plain map[string]time.Duration
	synctest.Test(t, func(t *testing.T) {
		alone = latencies(t, NewGate(slots, 4*slots, time.Second), map[string]int{"quiet": 2})
	})
	synctest.Test(t, func(t *testing.T) { fair = latencies(t, NewGate(slots, 4*slots, time.Second), crowd) })
	synctest.Test(t, func(t *testing.T) { plain = latencies(t, make(queue, slots), crowd) })
	ratio := float64(fair["quiet"]) / float64(alone["quiet"])
	red := float64(plain["quiet"]) / float64(alone["quiet"])
	if ratio > 1.2 {
		t.Errorf("the quiet one's p99 is %s beside the hog, %s alone", fair["quiet"], alone["quiet"])
	}
	if red <= 1.2 {
		t.Errorf("a plain queue passes too: %.2f", red)
	}
	t.Logf("REL fairness others_p99_ratio=%.2f red_control=%.2f hog_clients=%d", ratio, red, crowd["hog"])
}

// TestGateAllocates: letting a call in does not.
func TestGateAllocates(t *testing.T) {
	g := NewGate(100, 100, time.Second)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		g.Enter(ctx, "k", 0)
		g.Leave("k")
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
