package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// sharing are others that look at everything and compare it with what they saw before.
type sharing struct {
	b *bed

	mu     sync.Mutex
	marks  []map[string]uint64 // versions by id
	looks  int
	broken error
	looked func() // after each look, before what it has found is told
}

func (s *sharing) Changes(ctx context.Context, instances []string, since outbox.Mark, limit int) (changed []outbox.Message, now outbox.Mark, err error) {
	s.mu.Lock()
	looked := s.looked
	changed, now, err = s.look(ctx, instances, since, limit)
	s.mu.Unlock()
	if looked != nil {
		looked()
	}
	return changed, now, err
}

func (s *sharing) look(ctx context.Context, instances []string, since outbox.Mark, limit int) (changed []outbox.Message, now outbox.Mark, err error) {
	if s.looks++; s.broken != nil {
		return nil, outbox.Mark(fmt.Sprint(len(s.marks) - 1)), s.broken
	}
	before, versions := -1, map[string]uint64{}
	if since != "" {
		if _, err := fmt.Sscan(string(since), &before); err != nil {
			return nil, "", err
		}
	}
	all, err := s.b.db.Messages(ctx, us, outbox.Filter{Limit: 100_000})
	for _, m := range all {
		versions[m.ID] = m.Version
		if before >= 0 && slices.Contains(instances, us) {
			if was, ok := s.marks[before][m.ID]; !ok || was != m.Version {
				changed = append(changed, m)
			}
		}
	}
	s.marks = append(s.marks, versions)
	if len(changed) > limit {
		return nil, "", errors.New("too many")
	}
	return changed, outbox.Mark(fmt.Sprint(len(s.marks) - 1)), err
}

func (s *sharing) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// inWatchedReplicas is inReplicas with others that know everything.
func inWatchedReplicas(t *testing.T, test func(t *testing.T, b *bed, s *sharing, mine *outbox.Service)) {
	t.Helper()
	inReplicas(t, func(t *testing.T, b *bed, _ *outbox.Service) {
		b.stop()
		s := &sharing{b: b}
		b.others = s
		announce, other := b.providers.Store, b.service
		b.stop = b.run(store{DB: b.db}, b.carrier)
		mine := b.service
		b.providers.Store, b.service = announce, other // takes mails, and sends nothing
		test(t, b, s, mine)
	})
}

// told is what a watcher has seen, by mail.
type told struct {
	mu    sync.Mutex
	mails map[string][]outbox.Message
}

func (w *told) send(m outbox.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mails == nil {
		w.mails = map[string][]outbox.Message{}
	}
	w.mails[m.ID] = append(w.mails[m.ID], m)
	return nil
}

// wantEnd fails unless the mail was seen in order, nothing of it twice, and at last in this state.
func (w *told) wantEnd(t *testing.T, id string, state outbox.State) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.mails[id]
	if len(seen) == 0 || seen[len(seen)-1].State != state {
		t.Errorf("mail %s was seen as %v, want it %s at last", id, seen, state)
	}
	for i := 1; i < len(seen); i++ {
		if seen[i].Version <= seen[i-1].Version {
			t.Errorf("mail %s: version %d after %d", id, seen[i].Version, seen[i-1].Version)
		}
	}
}

func watchAll(ctx context.Context, t *testing.T, s *outbox.Service, tag string) (*told, <-chan error) {
	t.Helper()
	w, ended, begun := &told{}, make(chan error, 1), make(chan struct{})
	go func() {
		ended <- s.Watch(ctx, us, "", tag, func() error { close(begun); return nil }, w.send)
	}()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatal(err)
	}
	return w, ended
}

// TestWatchOthers: whoever watches sees what another replica does with mails.
func TestWatchOthers(t *testing.T) {
	inWatchedReplicas(t, func(t *testing.T, b *bed, _ *sharing, mine *outbox.Service) {
		b.activate(us)
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(500 * time.Millisecond)
			if mail.Recipients[0] == "never@example.com" {
				return failing(emailprovider.StepData, 550, false)(ctx, via, mail)
			}
			return accept(ctx, via, mail)
		})
		before := b.send(us)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all, _ := watchAll(ctx, t, mine, "")
		tagged, _ := watchAll(ctx, t, mine, "wanted")
		ends := map[string]outbox.State{before: outbox.Delivered}
		send := func(to, tag string, end outbox.State) string {
			id, err := b.service.Send(t.Context(), us, outbox.Draft{To: []string{to}, Text: "t", Tag: tag})
			if err != nil {
				t.Fatal(err)
			}
			ends[id] = end
			return id
		}
		for range 100 {
			send("r@example.com", "", outbox.Delivered)
		}
		wanted := send("r@example.com", "wanted", outbox.Delivered)
		failed := send("never@example.com", "", outbox.Failed)
		var states []outbox.State
		if err := mine.Watch(t.Context(), us, wanted, "", nil, func(m outbox.Message) error { states = append(states, m.State); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(states, []outbox.State{outbox.Queued, outbox.Sending, outbox.Delivered}) {
			t.Errorf("one mail: %v", states)
		}
		b.until(us, failed, outbox.Failed)
		for id := range ends {
			b.until(us, id, ends[id])
		}
		time.Sleep(300 * time.Millisecond)
		for id, end := range ends {
			all.wantEnd(t, id, end)
		}
		if tagged.wantEnd(t, wanted, outbox.Delivered); len(tagged.mails) != 1 {
			t.Errorf("the watch of a tag has seen %d mails", len(tagged.mails))
		}
	})
}

// TestWatchBeginsInTheMidst: what a look has seen is older than what the watch has read itself, and is not shown
// after it.
func TestWatchBeginsInTheMidst(t *testing.T) {
	inWatchedReplicas(t, func(t *testing.T, b *bed, s *sharing, mine *outbox.Service) {
		b.activate(us)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		watchAll(ctx, t, mine, "") // so that there are looks
		b.carrier.playing(func(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) emailprovider.Delivery {
			time.Sleep(time.Second)
			return failing(emailprovider.StepData, 451, true)(ctx, via, mail)
		})
		id := b.send(us)
		b.until(us, id, outbox.Sending)
		release := make(chan struct{})
		s.set(func() { s.looked = func() { <-release } }) // while it is being sent
		time.Sleep(500 * time.Millisecond)
		var one told
		ended := make(chan error, 1)
		go func() { ended <- mine.Watch(ctx, us, id, "", nil, one.send) }()
		time.Sleep(time.Second) // it waits for its first look
		if m, _ := b.message(us, id); m.State != outbox.Queued || m.Attempts != 1 {
			t.Fatalf("the mail is %s", m.State)
		}
		b.carrier.playing(nil)
		s.set(func() { s.looked = nil })
		close(release)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		one.wantEnd(t, id, outbox.Delivered)
		if first := one.mails[id][0]; first.State != outbox.Queued || first.Attempts != 1 {
			t.Errorf("it begins with %s after %d attempts", first.State, first.Attempts)
		}
	})
}

// TestWatchThroughTrouble: a store that can't be looked at lets nobody begin; who watches already misses nothing
// when it is back, and is told if that can't be said.
func TestWatchThroughTrouble(t *testing.T) {
	inWatchedReplicas(t, func(t *testing.T, b *bed, s *sharing, mine *outbox.Service) {
		b.activate(us)
		down := errors.New("down")
		w, ended := watchAll(t.Context(), t, mine, "")
		s.set(func() { s.broken = down })
		id := b.send(us)
		b.until(us, id, outbox.Delivered)
		if err := mine.Watch(t.Context(), us, "", "", nil, w.send); !errors.Is(err, down) {
			t.Errorf("a watch that can't begin ends with %v", err)
		}
		s.set(func() { s.broken = nil })
		time.Sleep(300 * time.Millisecond)
		w.wantEnd(t, id, outbox.Delivered)
		s.set(func() { s.broken = outbox.ErrMark })
		wantFault(t, "a watch that may have missed something", <-ended, fault.Aborted, "MAILKEEP-MISSED")
		s.set(func() { s.broken = nil })

		looks := func() (n int) { s.set(func() { n = s.looks }); return n }
		before := looks()
		time.Sleep(time.Hour)
		if n := looks(); n != before {
			t.Errorf("%d looks while nobody watches", n-before)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w, ended = watchAll(ctx, t, mine, "")
		id = b.send(us)
		b.until(us, id, outbox.Delivered)
		time.Sleep(time.Minute)
		w.wantEnd(t, id, outbox.Delivered)
		if n := looks() - before; n > 4*60+10 {
			t.Errorf("%d looks in a minute", n)
		}
		cancel()
		<-ended
		synctest.Wait()
	})
}

// TestSlowWatcherOfOthers: who does not read is told so, and delays others once only.
func TestSlowWatcherOfOthers(t *testing.T) {
	inWatchedReplicas(t, func(t *testing.T, b *bed, s *sharing, mine *outbox.Service) {
		b.activate(us)
		stuck := make(chan struct{})
		slow := make(chan error, 1)
		go func() {
			slow <- mine.Watch(t.Context(), us, "", "", nil, func(outbox.Message) error { <-stuck; return nil })
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		quick, _ := watchAll(ctx, t, mine, "")
		s.set(func() { s.broken = errors.New("down") })
		var ids []string
		for range 1200 { // more than a watcher may be behind
			ids = append(ids, b.send(us))
		}
		b.until(us, ids[len(ids)-1], outbox.Delivered)
		time.Sleep(time.Second)
		s.set(func() { s.broken = nil })
		time.Sleep(slowest)
		for _, id := range ids {
			quick.wantEnd(t, id, outbox.Delivered)
		}
		cancel()
		close(stuck)
		wantFault(t, "slow watch", <-slow, fault.Aborted, "MAILKEEP-SLOW")
	})
}

// slowest is how late one who reads may be because of one who does not.
const slowest = 1500 * time.Millisecond
