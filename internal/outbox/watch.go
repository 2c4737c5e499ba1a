package outbox

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mailkeep/mailkeep/internal/fault"
)

const (
	// watchBuffer is how many changes a watcher may be behind.
	watchBuffer = 1024
	// maxWatchers bounds the watchers of one instance.
	maxWatchers = 100
)

var (
	errMissed   = fault.New(fault.Aborted, "MAILKEEP-MISSED", "the database has moved, and changes may have been missed; list and watch again")
	errSlow     = fault.New(fault.Aborted, "MAILKEEP-SLOW", "changes came faster than they were read; list and watch again")
	errWatchers = fault.Newf(fault.ResourceExhausted, "MAILKEEP-WATCHERS", "%d others are watching already", maxWatchers)
)

// Watch calls send with every change of state from now on, which is when begun is called, if any: of one
// mail, beginning with how it is and ending when it is settled, or of all mails of the instance, until
// ctx ends; with a tag, of those that have it only. If other processes have the store too, a mail is shown as
// it is at each look: states between two of them are left out.
func (s *Service) Watch(ctx context.Context, instance, id, tag string, begun func() error, send func(Message) error) error {
	w, err := s.hub.add(instance, id, tag)
	if err != nil {
		return err
	}
	defer s.hub.remove(w)
	if err := s.hub.begin(ctx); err != nil {
		return err
	}
	if begun != nil {
		if err := begun(); err != nil {
			return err
		}
	}
	var last Message
	if id != "" {
		if last, err = s.Store.Message(ctx, instance, id); err != nil {
			return explain(err)
		}
		if err := send(last); err != nil || !last.State.Open() {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-w.changes:
			if !ok {
				return w.ended
			}
			if id != "" && m.Version <= last.Version {
				continue // that, or what is newer, was read from the store already
			}
			if err := send(*m); err != nil || id != "" && !m.State.Open() {
				return err
			}
		}
	}
}

// hub hands changes of mails to watchers, those of one mail in the order in which they were made.
type hub struct {
	watched  atomic.Int64 // how many watchers there are, so that nobody prepares what nobody reads
	follower *follower    // tells of changes, if other processes make some too; else those who make them do

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	held     map[mailKey]*held
}

// mailKey names a mail.
type mailKey struct{ instance, id string }

func keyOf(m *Message) mailKey { return mailKey{m.Instance, m.ID} }

// held is what has come of a mail while an earlier change of it is not told yet.
type held struct {
	by    int
	later []Message
}

type watcher struct {
	instance, id, tag string
	changes           chan *Message // closed by end; nobody changes what it has
	ended             error         // guarded by hub.mu until changes is closed
	gone              chan struct{} // closed when nobody reads changes any more
}

func newHub() *hub { return &hub{watchers: map[*watcher]struct{}{}, held: map[mailKey]*held{}} }

func (h *hub) add(instance, id, tag string) (*watcher, error) {
	w := &watcher{
		instance: instance, id: id, tag: tag, changes: make(chan *Message, watchBuffer), gone: make(chan struct{}),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	others := 0
	for other := range h.watchers {
		if other.instance == instance {
			others++
		}
	}
	if others >= maxWatchers {
		return nil, errWatchers
	}
	h.watchers[w] = struct{}{}
	h.watched.Add(1)
	return w, nil
}

func (h *hub) remove(w *watcher) {
	close(w.gone)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
	if h.watched.Add(-1) == 0 && h.follower != nil {
		h.follower.rest()
	}
}

// begin returns when the watchers that were added see every change from now on.
func (h *hub) begin(ctx context.Context) error {
	if h.follower == nil {
		return nil
	}
	return h.follower.begin(ctx)
}

// end tells a watcher that it sees no more, and why. It is called with the lock held.
func (w *watcher) end(why error) {
	if w.ended == nil {
		w.ended = why
		close(w.changes)
	}
}

func (w *watcher) wants(m *Message) bool {
	return w.instance == m.Instance && (w.id == "" || w.id == m.ID) && (w.tag == "" || w.tag == m.Tag)
}

// publish tells of a change, after those that are held for.
func (h *hub) publish(m Message) {
	if h.watched.Load() == 0 {
		return
	}
	if h.follower != nil {
		h.follower.stir()
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if hold, ok := h.held[keyOf(&m)]; ok {
		hold.later = append(hold.later, m)
		return
	}
	h.tell(m)
}

// hold begins a change of mails that others may change again as soon as it is made: what they publish
// waits until then is called with the change that there was, if any.
func (h *hub) hold(mails ...mailKey) (then func(made ...Message)) {
	if h.watched.Load() == 0 || h.follower != nil {
		return func(made ...Message) {
			for _, m := range made {
				h.publish(m)
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range mails {
		if h.held[key] == nil {
			h.held[key] = &held{}
		}
		h.held[key].by++
	}
	return func(made ...Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, m := range made {
			// Whoever holds the mail besides has a change to tell that came before.
			if hold := h.held[keyOf(&m)]; hold != nil && (hold.by > 1 || !slices.Contains(mails, keyOf(&m))) {
				hold.later = append(hold.later, m)
				continue
			}
			h.tell(m)
		}
		for _, key := range mails {
			h.release(key)
		}
	}
}

func (h *hub) release(key mailKey) {
	hold := h.held[key]
	if hold.by--; hold.by > 0 {
		return
	}
	delete(h.held, key)
	for _, m := range hold.later {
		h.tell(m)
	}
}

// tell never waits: a watcher that is too slow is dropped.
func (h *hub) tell(m Message) {
	for w := range h.watchers {
		if w.ended != nil || !w.wants(&m) {
			continue
		}
		select {
		case w.changes <- &m:
		default:
			w.end(errSlow)
		}
	}
}
