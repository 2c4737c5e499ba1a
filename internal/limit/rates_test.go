package limit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestRates: over any time a key gets its rate, and after a pause two seconds of it at once.
func TestRates(t *testing.T) {
	for _, perSecond := range []int{1, 3, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := NewRates[string](10, time.Now)
			const seconds = 20
			took, refused := 0, 0
			for end := time.Now().Add(seconds * time.Second); time.Now().Before(end); {
				wait := r.Take("hot", perSecond)
				if wait == 0 {
					took++
					continue
				}
				if got := r.Wait("hot", perSecond); got != wait {
					t.Fatalf("Wait says %s, Take %s", got, wait)
				}
				refused++
				time.Sleep(wait - time.Nanosecond)
				if r.Take("hot", perSecond) == 0 {
					t.Fatalf("there was one before the %s had passed", wait)
				}
				time.Sleep(time.Nanosecond)
			}
			if want := perSecond * (seconds + 2); took < want-1 || took > want {
				t.Errorf("%d calls in %d s at %d per second, want %d", took, seconds, perSecond, want)
			}
			if refused == 0 {
				t.Error("none was refused")
			}
			if r.Take("another", perSecond) > 0 {
				t.Error("another key waits for this one")
			}
		})
	}
}

// TestRatesForget: however many keys there are, few are remembered, and who is over its rate is not the first
// to be forgotten while there are others.
func TestRatesForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRates[string](100, time.Now)
		for n := range 10_000 {
			for range 5 {
				r.Take("hot", 1)
			}
			r.Take(fmt.Sprint(n), 1)
			if n%50 == 49 {
				time.Sleep(time.Second)
				if r.Take("hot", 1) > 0 {
					t.Fatal("the rate is not what it was")
				}
				if r.Take("hot", 1) == 0 {
					t.Fatal("who is over its rate was forgotten")
				}
			}
		}
		for n := range 10_000 {
			r.Take(fmt.Sprint("flood ", n), 1)
		}
		if len(r.full) > 100 {
			t.Errorf("%d keys are remembered", len(r.full))
		}
	})
}
