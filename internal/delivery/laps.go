package delivery

import (
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// laps are how long the steps of a mail took.
type laps struct {
	began time.Time
	last  time.Time
	steps []emailprovider.StepTime
}

func startLaps() laps {
	now := time.Now()
	return laps{began: now, last: now}
}

// lap says that a step has ended.
func (l *laps) lap(step emailprovider.Step) {
	now := time.Now()
	l.add(step, now.Sub(l.last))
	l.last = now
}

// add adds to the time of a step: some are done twice, such as EHLO.
func (l *laps) add(step emailprovider.Step, took time.Duration) {
	for i := range l.steps {
		if l.steps[i].Step == step {
			l.steps[i].Took += took
			return
		}
	}
	if l.steps == nil {
		l.steps = make([]emailprovider.StepTime, 0, 3) // what a mail on a kept session has
	}
	l.steps = append(l.steps, emailprovider.StepTime{Step: step, Took: took})
}
