package instance

import (
	"context"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	// lookAgain is how often a store is looked at that other processes change too.
	lookAgain = time.Second
	// finishAgain is how often it is seen to that nothing is left of removed instances.
	finishAgain = time.Minute
)

// What the log says of what is done again.
const (
	unseen = "instances can't be looked at; trying again"
	left   = "rows of removed instances are left; trying again"
)

// directory is the instances as they were at one moment. Nobody changes it.
type directory struct {
	revision uint64
	byID     map[string]*entry
	byDomain map[string]string
}

// entry is an instance and whether it still is.
type entry struct {
	limits Limits
	policy emailprovider.Policy
	life   context.Context // ends when the instance is removed
	end    context.CancelFunc
}

// ByHost returns the id of the instance that a request's host is for. An unknown one is told nothing of
// those that there are.
func (s *Service) ByHost(_ context.Context, host string) (string, error) {
	d := s.known.Load()
	if len(d.byID) == 1 {
		return Default, nil
	}
	host = Normalize(host)
	if id, ok := d.byDomain[host]; ok {
		return id, nil
	}
	if loopback(host) {
		return Default, nil
	}
	return "", errHost
}

// Many reports whether there is any besides Default, so that others than the operator have a say.
func (s *Service) Many(context.Context) bool { return len(s.known.Load().byID) > 1 }

// Policy implements emailprovider.Policies.
func (s *Service) Policy(_ context.Context, id string) (emailprovider.Policy, error) {
	if e, ok := s.known.Load().byID[id]; ok {
		return e.policy, nil
	}
	return emailprovider.Policy{}, errNone
}

// Limits returns the bounds of an instance.
func (s *Service) Limits(id string) (Limits, error) {
	if e, ok := s.known.Load().byID[id]; ok {
		return e.limits, nil
	}
	return Limits{}, errNone
}

// While returns a context that also ends when the instance is removed, with the cause that its callers are
// told. stop gives up what it takes.
func (s *Service) While(ctx context.Context, id string) (bound context.Context, stop func()) {
	bound, cancel := context.WithCancelCause(ctx)
	e, ok := s.known.Load().byID[id]
	if !ok {
		cancel(errHost)
		return bound, func() {}
	}
	release := context.AfterFunc(e.life, func() { cancel(errHost) })
	return bound, func() {
		release()
		cancel(nil)
	}
}

// Look brings what is remembered up to what is stored.
func (s *Service) Look(ctx context.Context) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	before := s.known.Load()
	if before.byID != nil {
		if revision, err := s.Store.InstancesRevision(ctx); err != nil || revision == before.revision {
			return err
		}
	}
	all, revision, err := s.Store.Instances(ctx)
	if err != nil {
		return err
	}
	s.take(before, all, revision)
	return nil
}

// take makes the instances those that are known. The keys of all are looked at anew when they are needed
// next: some may have got new ones.
func (s *Service) take(before *directory, all []Instance, revision uint64) {
	now := &directory{revision: revision, byID: map[string]*entry{}, byDomain: map[string]string{}}
	for _, in := range all {
		s.complete(&in)
		e := &entry{limits: in.Policy.Limits, policy: emailprovider.Policy{SenderDomains: in.Policy.SenderDomains}}
		if was, ok := before.byID[in.ID]; ok {
			e.life, e.end = was.life, was.end
		} else {
			e.life, e.end = context.WithCancel(context.Background())
		}
		now.byID[in.ID] = e
		for _, domain := range in.Domains {
			now.byDomain[domain] = in.ID
		}
	}
	s.known.Store(now)
	for id, e := range before.byID {
		s.Keys.Forget(id)
		if _, ok := now.byID[id]; ok {
			continue
		}
		e.end()
		if s.Gone != nil {
			s.Gone(id)
		}
	}
}

// Run finishes removals until ctx ends, and follows what other processes do to the store if it is shared.
func (s *Service) Run(ctx context.Context, shared bool) {
	look, finish := time.NewTicker(lookAgain), time.NewTicker(finishAgain)
	defer look.Stop()
	defer finish.Stop()
	s.log(ctx, left, s.Store.FinishRemovals(ctx))
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if shared || s.stale.Load() {
				s.changed(ctx)
			}
		case <-finish.C:
			s.log(ctx, left, s.Store.FinishRemovals(ctx))
		}
	}
}

func (s *Service) log(ctx context.Context, text string, err error) {
	if err != nil && ctx.Err() == nil {
		s.Log.ErrorContext(ctx, text, "err", err)
	}
}
