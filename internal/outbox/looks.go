package outbox

import (
	"slices"
	"time"
)

// Bounds of the time between two looks at a queue that other processes have too. It is short while something
// goes on, and twice as long each time nothing does.
const (
	minPoll = 100 * time.Millisecond
	maxPoll = time.Second
)

// looks is how often the queue is looked at.
type looks struct {
	shared bool // with other processes
	last   []Wait
	at     time.Time
	pause  time.Duration
}

// next takes note of what a look has seen, and returns when there is to be another if nothing is due before.
func (l *looks) next(seen []Wait) time.Duration {
	if !l.shared {
		return poll
	}
	l.at, l.pause = time.Now(), min(maxPoll, max(minPoll, 2*l.pause))
	if !slices.Equal(seen, l.last) {
		l.last, l.pause = slices.Clone(seen), minPoll
	}
	return l.pause
}

// tooSoon returns how long another look has to wait.
func (l *looks) tooSoon(now time.Time) time.Duration {
	if !l.shared {
		return 0
	}
	return l.at.Add(minPoll).Sub(now)
}
