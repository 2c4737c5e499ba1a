package outbox

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// What a Worker keeps to.
const (
	// DefaultSessions is how many sessions an instance has to its provider at a time.
	DefaultSessions = 4

	// DefaultLease is how long a claimed mail is its worker's.
	DefaultLease = time.Minute

	probeAfter = time.Minute // between the mails that try whether a refused credential works again

	// poll is how often the store is asked for what nobody here knows of, if there are no others.
	poll = 5 * time.Second
	// retry is how long to wait after the store has failed.
	retry = time.Second
)

// Carrier takes mails to where they are sent.
type Carrier interface {
	// Carry hands mails to the provider of a route, one after another, and calls done once for each,
	// in their order, as soon as its fate is known. When done says that there are no more, those left
	// are untried. It returns when done was called for all.
	//
	// The end of ctx breaks off what is under way.
	Carry(ctx context.Context, via emailprovider.Route, mails []emailprovider.Mail, done func(i int, d emailprovider.Delivery) (more bool))
}

// Worker sends what a Service has taken. Each instance has a lane of its own, so that one's slow
// server holds up nobody else.
type Worker struct {
	Config
	hub    *hub
	jitter func() float64

	mu      sync.Mutex
	lanes   map[string]*lane
	running context.Context // of deliveries; nil when Run is not under way
	senders sync.WaitGroup
	nudged  chan struct{} // something is due earlier than Run may think
	looks   looks

	leases leases
}

func newWorker(c Config, h *hub) *Worker {
	return &Worker{
		Config: c, hub: h, jitter: rand.Float64, lanes: map[string]*lane{}, nudged: make(chan struct{}, 1),
		looks: looks{shared: c.Others != nil},
	}
}

// wakeAfter wakes the lane when its hold is over, if it still is held for that.
func (w *Worker) wakeAfter(l *lane) {
	if wait := l.heldUntil().Sub(w.now()); wait > 0 {
		time.AfterFunc(wait, func() { w.wake(l.instance) })
	}
}

// Run sends mails until ctx ends; then nothing more is claimed, and what is under way has the grace
// time to finish before it is broken off. It returns when nothing is under way any more.
func (w *Worker) Run(ctx context.Context, grace time.Duration) {
	deliveries, breakOff := context.WithCancel(context.WithoutCancel(ctx))
	defer breakOff()
	w.mu.Lock()
	w.running = deliveries
	w.mu.Unlock()

	beating, stopBeating := context.WithCancel(deliveries)
	var background sync.WaitGroup
	background.Go(func() { w.beat(beating) })
	w.schedule(ctx)

	w.mu.Lock()
	w.running = nil
	w.mu.Unlock()
	timer := time.AfterFunc(grace, breakOff)
	w.senders.Wait()
	timer.Stop()
	stopBeating()
	background.Wait()
}

// Changed tells the Worker that the providers of an instance have changed, with the sequence of the change:
// what held its mails back may be over.
func (w *Worker) Changed(instance string, sequence uint64) {
	if w.lane(instance).changed(sequence, w.now()) {
		w.wake(instance)
	}
}

// schedule wakes lanes when their mails are due.
func (w *Worker) schedule(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.nudged:
			if wait := w.looks.tooSoon(time.Now()); wait > 0 {
				timer.Reset(wait)
				continue
			}
		case <-timer.C:
		}
		timer.Reset(w.tick(ctx))
	}
}

// tick does what is due and returns how long to wait for the next.
func (w *Worker) tick(ctx context.Context) time.Duration {
	waits, err := w.Queue.Waiting(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.Log.ErrorContext(ctx, "the outbox can't be looked at; trying again", "err", err)
		}
		return retry
	}
	next := w.looks.next(waits)
	for _, wait := range waits {
		w.Changed(wait.Instance, wait.Sequence)
		now := w.now()
		if !wait.Due.After(now) {
			w.expire(ctx, wait.Instance)
			w.wake(wait.Instance)
			wait.Due = w.lane(wait.Instance).heldUntil()
		}
		if until := wait.Due.Sub(now); until > 0 {
			next = min(next, until)
		}
	}
	return next
}

// expireBatch bounds a transaction.
const expireBatch = 500

// expire settles the mails of an instance whose life is over, at most once a second.
func (w *Worker) expire(ctx context.Context, instance string) {
	now := w.now()
	if !w.lane(instance).mayExpire(now) {
		return
	}
	if err := w.keep(ctx, now); err != nil {
		return
	}
	for {
		expired, err := w.Queue.Expire(ctx, instance, now, expireBatch, w.KeepBodies)
		if err != nil {
			if ctx.Err() == nil {
				w.Log.ErrorContext(ctx, "expired mails can't be settled; trying again", "instance", instance, "err", err)
			}
			return
		}
		for _, m := range expired {
			w.Log.WarnContext(ctx, "mail expired", "instance", instance, "message", m.ID, "attempts", m.Attempts)
			w.hub.publish(m)
		}
		if len(expired) < expireBatch {
			return
		}
	}
}

// wake sees to it that what is due in an instance is sent.
func (w *Worker) wake(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil {
		return // Run begins with what it finds
	}
	l := w.laneLocked(instance)
	if l.join(w.now(), w.Sessions) {
		ctx := w.running
		w.senders.Go(func() { w.send(ctx, l) })
	}
}

// arrived sees to it that a mail that was taken here is sent. What holds it back may be over for a reason that
// only others know of.
func (w *Worker) arrived(instance string) {
	w.wake(instance)
	if w.Others != nil && w.lane(instance).heldUntil().After(w.now()) {
		w.nudge()
	}
}

// nudge makes Run look at the queue again.
func (w *Worker) nudge() {
	select {
	case w.nudged <- struct{}{}:
	default: // it will anyway
	}
}

func (w *Worker) lane(instance string) *lane {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.laneLocked(instance)
}

func (w *Worker) laneLocked(instance string) *lane {
	l, ok := w.lanes[instance]
	if !ok {
		l = &lane{instance: instance, batch: minBatch}
		w.lanes[instance] = l
	}
	return l
}

// Drop forgets an instance that was removed. What is being sent of it finds that its mails are gone.
func (w *Worker) Drop(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.lanes, instance)
}

func (w *Worker) now() time.Time { return w.Now().UTC().Truncate(time.Microsecond) }

// stopping reports whether nothing more is to be claimed.
func (w *Worker) stopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running == nil
}
