package sqlstore

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// queue is what callers wait for to be done. What has queued up while the last was under way is done
// together: the disk, or the network, is asked once for all of it.
type queue[T any] struct {
	// run takes jobs and finishes each of them. It is never run twice at a time.
	run func()

	mu      sync.Mutex
	jobs    []*job[T]
	running bool // somebody empties the queue

	timers sync.Pool // of those who wait
}

// job is what one caller asks for.
type job[T any] struct {
	ask   T
	ended func() // called once, when the job is over or will never begin; may be nil

	begun, withdrawn bool // of which at most one becomes true; under queue.mu

	err      error // set before done is closed
	panicked error
	done     chan struct{}
}

// await queues a job and waits for its outcome. ctx and the patience bound the wait for it to begin, the
// patience alone bounds it from then on.
func (q *queue[T]) await(ctx context.Context, patience time.Duration, j *job[T]) error {
	j.done = make(chan struct{})
	timer := q.timer(patience)
	defer func() {
		timer.Stop()
		q.timers.Put(timer)
	}()
	if q.add(j) {
		go q.empty()
	}
	select {
	case <-j.done:
		return j.outcome()
	case <-ctx.Done():
		if q.withdraw(j) {
			return fmt.Errorf("sqlstore: %w", ctx.Err())
		}
	case <-timer.C:
		if q.withdraw(j) {
			return errBusy
		}
		return errOutcomeUnknown
	}
	select {
	case <-j.done:
		return j.outcome()
	case <-timer.C:
		return errOutcomeUnknown
	}
}

func (q *queue[T]) timer(after time.Duration) *time.Timer {
	if timer, ok := q.timers.Get().(*time.Timer); ok {
		timer.Reset(after)
		return timer
	}
	return time.NewTimer(after)
}

// add queues a job and reports whether the caller has to see to the queue.
func (q *queue[T]) add(j *job[T]) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, j)
	first, q.running = !q.running, true
	return first
}

// withdraw reports whether the job will never begin.
func (q *queue[T]) withdraw(j *job[T]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.begun {
		return false
	}
	j.withdrawn = true
	if i := slices.Index(q.jobs, j); i >= 0 {
		q.jobs = slices.Delete(q.jobs, i, i+1)
	}
	if j.ended != nil {
		j.ended()
	}
	return true
}

// begin reports whether the job is to begin.
func (q *queue[T]) begin(j *job[T]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.begun = !j.withdrawn
	return j.begun
}

// take returns the next jobs, at most so many.
func (q *queue[T]) take(most int) []*job[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.jobs), most)
	jobs := slices.Clone(q.jobs[:n])
	q.jobs = slices.Delete(q.jobs, 0, n)
	return jobs
}

// takeBegun is take for jobs that all begin at once.
func (q *queue[T]) takeBegun(most int) []*job[T] { return q.takeFitting(most, anything) }

func anything[T any](T) bool { return true }

// takeFitting is takeBegun for those jobs whose asks fit.
func (q *queue[T]) takeFitting(most int, fits func(T) bool) (jobs []*job[T]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = slices.DeleteFunc(q.jobs, func(j *job[T]) bool {
		taken := len(jobs) < most && fits(j.ask)
		if taken {
			j.begun = true
			jobs = append(jobs, j)
		}
		return taken
	})
	return jobs
}

// next returns the next jobs, at most so many, and leaves them there.
func (q *queue[T]) next(most int) []*job[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.jobs[:min(len(q.jobs), most)])
}

// more reports whether jobs wait; if not, the next that is added sees to the queue.
func (q *queue[T]) more() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = len(q.jobs) > 0
	return q.running
}

// seize reports whether nobody saw to the queue. Then the caller has to, by release.
func (q *queue[T]) seize() (free bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	free, q.running = !q.running, true
	return free
}

// release leaves the queue to others, after seize.
func (q *queue[T]) release() {
	if q.more() {
		go q.empty()
	}
}

// empty works until the queue is empty.
func (q *queue[T]) empty() {
	for q.more() {
		runtime.Gosched() // who is about to come, comes
		q.run()
	}
}

// finish answers the caller: with its own outcome, or that of all.
func (j *job[T]) finish(all error) {
	if all != nil {
		j.err = all
	}
	if j.ended != nil {
		j.ended()
	}
	close(j.done)
}

func (j *job[T]) outcome() error {
	if j.panicked != nil {
		panic(j.panicked)
	}
	return j.err
}
