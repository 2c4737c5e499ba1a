package outbox

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

const (
	// lookEvery is how often changes are looked for that others make.
	lookEvery = 250 * time.Millisecond
	// lookAgain is the shortest time between two looks, after something was changed here.
	lookAgain = 25 * time.Millisecond
	// mostChanges bounds what one look takes into memory.
	mostChanges = 10_000
	// slowness is how long watchers that are behind are waited for at each look.
	slowness = time.Second
)

// follower tells watchers what has become of mails, whichever process has done it. It looks while somebody
// watches.
type follower struct {
	others  Others
	hub     *hub
	log     *slog.Logger
	stirred chan struct{}
	telling sync.Mutex // held while watchers are told: the vigil before may still do that

	mu    sync.Mutex
	watch *vigil // nil while nobody watches
}

// vigil is from the first watcher to when there are no more.
type vigil struct {
	end      context.CancelFunc
	mark     Mark
	awaiting []chan error // the next look; guarded by follower.mu
}

func newFollower(o Others, h *hub, log *slog.Logger) *follower {
	return &follower{others: o, hub: h, log: log, stirred: make(chan struct{}, 1)}
}

// begin waits for a look that was begun after it. ctx bounds the wait.
func (f *follower) begin(ctx context.Context) error {
	looked := make(chan error, 1)
	f.mu.Lock()
	if f.watch == nil {
		var lasting context.Context
		f.watch = new(vigil)
		lasting, f.watch.end = context.WithCancel(context.Background())
		go f.follow(lasting, f.watch)
	}
	f.watch.awaiting = append(f.watch.awaiting, looked)
	f.mu.Unlock()
	f.stir()
	select {
	case err := <-looked:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rest is for when nobody watches any more.
func (f *follower) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch != nil {
		f.watch.end()
		f.watch = nil
	}
}

// stir says that there is something to see.
func (f *follower) stir() {
	select {
	case f.stirred <- struct{}{}:
	default: // it was said
	}
}

// follow looks until ctx ends.
func (f *follower) follow(ctx context.Context, v *vigil) {
	for ctx.Err() == nil {
		f.look(ctx, v)
		if !sleep(ctx, lookAgain) {
			return
		}
		select {
		case <-ctx.Done():
		case <-f.stirred:
		case <-time.After(lookEvery - lookAgain):
		}
	}
}

// look tells what has changed since the look before.
func (f *follower) look(ctx context.Context, v *vigil) {
	f.mu.Lock()
	awaiting := v.awaiting
	v.awaiting = nil
	f.mu.Unlock()
	changed, now, err := f.others.Changes(ctx, f.hub.instances(), v.mark, mostChanges)
	f.telling.Lock()
	defer f.telling.Unlock()
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, ErrMark):
		f.hub.endAll(errMissed)
		v.mark, err = now, nil
	case err != nil:
		f.log.ErrorContext(ctx, "changes of mails can't be followed; trying again", "err", err)
	default:
		f.hub.tellAll(changed)
		v.mark = now
	}
	for _, looked := range awaiting {
		looked <- err
	}
}

// instances returns those that are watched.
func (h *hub) instances() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{}
	for w := range h.watchers {
		if !seen[w.instance] {
			seen[w.instance] = true
			all = append(all, w.instance)
		}
	}
	return all
}

// list returns the watchers that have not ended.
func (h *hub) list() (all []*watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if w.ended == nil {
			all = append(all, w)
		}
	}
	return all
}

func (h *hub) endAll(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.end(why)
	}
}

// tellAll tells of changes. Many come at once here, so that it waits for who has not read them yet, but not
// for long.
func (h *hub) tellAll(changed []Message) {
	if len(changed) == 0 {
		return
	}
	over := time.Now().Add(slowness)
	var all sync.WaitGroup
	for _, w := range h.list() {
		all.Go(func() {
			for i := range changed {
				if m := &changed[i]; w.wants(m) && !w.tell(m, over) {
					h.mu.Lock()
					w.end(errSlow)
					h.mu.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
}

// tell reports whether the watcher has taken a change before the time.
func (w *watcher) tell(m *Message, before time.Time) bool {
	select {
	case w.changes <- m:
		return true
	default:
	}
	timer := time.NewTimer(time.Until(before))
	defer timer.Stop()
	select {
	case w.changes <- m:
		return true
	case <-w.gone:
		return true
	case <-timer.C:
		return false
	}
}
