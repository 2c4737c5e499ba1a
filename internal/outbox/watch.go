package outbox

import (
	"context"
	"sync"

	"github.com/mailkeep/mailkeep/internal/fault"
)

// watchBuffer is how many changes a watcher may be behind.
const watchBuffer = 1024

var errSlow = fault.New(fault.Aborted, "MAILKEEP-SLOW", "changes came faster than they were read; list and watch again")

// Watch calls send with every change of state from now on: of one mail, beginning with how it is and
// ending when it is settled, or of all mails of the instance, until ctx ends; with a tag, of those
// that have it only. It sees the changes that this process makes.
func (s *Service) Watch(ctx context.Context, instance, id, tag string, send func(Message) error) error {
	w := s.hub.add(instance, id, tag)
	defer s.hub.remove(w)
	var last Message
	if id != "" {
		var err error
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
				return errSlow
			}
			if id != "" && m.Changed.Before(last.Changed) {
				continue // what is newer was read from the store already
			}
			if err := send(m); err != nil || id != "" && !m.State.Open() {
				return err
			}
		}
	}
}

// hub hands changes of mails to watchers.
type hub struct {
	mu       sync.RWMutex
	watchers map[*watcher]struct{}
}

type watcher struct {
	instance, id, tag string
	changes           chan Message // closed when it was full
	closed            bool         // guarded by hub.mu
}

func newHub() *hub { return &hub{watchers: map[*watcher]struct{}{}} }

func (h *hub) add(instance, id, tag string) *watcher {
	w := &watcher{instance: instance, id: id, tag: tag, changes: make(chan Message, watchBuffer)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[w] = struct{}{}
	return w
}

func (h *hub) remove(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// watched reports whether anybody watches, so that nobody prepares what nobody reads.
func (h *hub) watched() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.watchers) > 0
}

// publish never waits: a watcher that is too slow is dropped.
func (h *hub) publish(m Message) {
	if !h.watched() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if w.closed || w.instance != m.Instance || w.id != "" && w.id != m.ID || w.tag != "" && w.tag != m.Tag {
			continue
		}
		select {
		case w.changes <- m:
		default:
			close(w.changes)
			w.closed = true
		}
	}
}
