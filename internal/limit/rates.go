package limit

import (
	"sync"
	"time"
)

// burst is how much of its future a key may use at once: after a pause, the calls of two seconds.
const burst = 2 * time.Second

// Rates holds each key to a rate. It is a token bucket for each, kept as the one time when that will be full
// again (the generic cell rate algorithm). It is safe for concurrent use.
type Rates[K comparable] struct {
	most  int // keys that are remembered
	now   func() time.Time
	start time.Time

	mu    sync.Mutex
	full  map[K]time.Duration // when the bucket is full again, since start
	swept time.Duration
}

// NewRates returns Rates that remember at most this many keys. Beyond that some are forgotten, and begin anew.
func NewRates[K comparable](most int, now func() time.Time) *Rates[K] {
	return &Rates[K]{most: most, now: now, start: now(), full: map[K]time.Duration{}}
}

// Take takes one from the bucket of a key that gets perSecond, at least 1, and returns 0; or takes nothing,
// and returns after how long there will be one.
func (r *Rates[K]) Take(key K, perSecond int) (wait time.Duration) {
	return r.look(key, perSecond, true)
}

// Wait returns what Take would, and takes nothing.
func (r *Rates[K]) Wait(key K, perSecond int) time.Duration {
	return r.look(key, perSecond, false)
}

func (r *Rates[K]) look(key K, perSecond int, take bool) (wait time.Duration) {
	interval := time.Second / time.Duration(perSecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now().Sub(r.start)
	full, known := r.full[key]
	full = max(full, now)
	if wait := full + interval - now - burst; wait > 0 {
		return wait
	}
	if take {
		if !known {
			r.makeRoom(now)
		}
		r.full[key] = full + interval
	}
	return 0
}

// makeRoom forgets full buckets when there are too many keys, or any one if there was no time to become full
// for those.
func (r *Rates[K]) makeRoom(now time.Duration) {
	if len(r.full) < r.most {
		return
	}
	if now-r.swept >= time.Second {
		r.swept = now
		for key, full := range r.full {
			if full <= now {
				delete(r.full, key)
			}
		}
	}
	for key := range r.full {
		if len(r.full) < r.most {
			return
		}
		delete(r.full, key)
	}
}
