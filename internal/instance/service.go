package instance

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// What callers are told.
var (
	errHost      = fault.New(fault.NotFound, "MAILKEEP-HOST", "nothing answers at this host")
	errNone      = fault.New(fault.NotFound, "MAILKEEP-INSTANCE", "instance not found")
	errTaken     = fault.New(fault.AlreadyExists, "MAILKEEP-INSTANCE", "this id is or was an instance's; ids are given once")
	errDomain    = fault.New(fault.AlreadyExists, "MAILKEEP-DOMAIN", "one of the domains is another instance's")
	errPermanent = fault.New(fault.FailedPrecondition, "MAILKEEP-INSTANCE", "the instance "+Default+" can't be removed")
	errSenders   = fault.New(fault.FailedPrecondition, "MAILKEEP-INSTANCE",
		"the domains of senders of the instance "+Default+" are set with --sender-domain")
)

// Keys makes keys of instances, and forgets them.
type Keys interface {
	// NewKey returns a new key, which is not stored yet.
	NewKey(instance string) (Key, error)
	// Forget drops what is in memory of an instance's keys.
	Forget(instance string)
}

// Config is what a Service works with.
type Config struct {
	Store         Store
	Keys          Keys
	SenderDomains []string              // of Default
	Gone          func(instance string) // is told of each removed instance, on each process; may be nil
	Now           func() time.Time
	Log           *slog.Logger
}

// Service is every operation on instances, and what is remembered of them. It is safe for concurrent use.
type Service struct {
	Config
	known   atomic.Pointer[directory]
	reading sync.Mutex  // one look at the store at a time
	stale   atomic.Bool // a look has failed after a change
}

// NewService returns a Service that knows what there is.
func NewService(ctx context.Context, c Config) (*Service, error) {
	s := &Service{Config: c}
	s.known.Store(&directory{})
	return s, s.Look(ctx)
}

// List returns the instances in the order of their ids.
func (s *Service) List(ctx context.Context) ([]Instance, error) {
	all, _, err := s.Store.Instances(ctx)
	for i := range all {
		s.complete(&all[i])
	}
	return all, err
}

// complete adds what is not stored.
func (s *Service) complete(in *Instance) {
	if in.ID == Default {
		in.Policy.SenderDomains = s.SenderDomains
	}
}

// Removed returns what is left of those that were removed.
func (s *Service) Removed(ctx context.Context) ([]Removed, error) {
	return s.Store.RemovedInstances(ctx)
}

// Add makes an instance and returns it with the token of its first owner.
func (s *Service) Add(ctx context.Context, in Instance) (Instance, secret.Text, error) {
	if !validID(in.ID) {
		return in, secret.Text{}, badValue("id must be lower-case letters, digits and hyphens, beginning with a letter")
	}
	if in.Name == "" {
		in.Name = in.ID
	}
	if err := check(&in); err != nil {
		return in, secret.Text{}, err
	}
	in.Created = s.Now().UTC().Truncate(time.Microsecond)
	key, err := s.Keys.NewKey(in.ID)
	if err != nil {
		return in, secret.Text{}, err
	}
	owner, plain := auth.NewOwner(in.ID, in.Created)
	if err := s.Store.CreateInstance(ctx, New{Instance: in, Key: key, Owner: owner}); err != nil {
		return in, secret.Text{}, s.failed(err)
	}
	s.changed(ctx)
	return in, plain, nil
}

// Update stores what change makes of an instance. It may be called more than once.
func (s *Service) Update(ctx context.Context, id string, change func(*Instance)) (updated Instance, err error) {
	err = s.Store.UpdateInstance(ctx, id, func(in *Instance) error {
		stored := in.Policy.SenderDomains
		change(in)
		if id == Default && !slices.Equal(stored, in.Policy.SenderDomains) {
			return errSenders
		}
		if err := check(in); err != nil {
			return err
		}
		updated = *in
		return nil
	})
	if err != nil {
		return Instance{}, s.failed(err)
	}
	s.complete(&updated)
	s.changed(ctx)
	return updated, nil
}

// Remove destroys an instance and all that it has. When it returns an error after the keys were destroyed,
// the rest is deleted later.
func (s *Service) Remove(ctx context.Context, id, by string) error {
	if id == Default {
		return errPermanent
	}
	if err := s.Store.RemoveInstance(ctx, id, by); err != nil {
		return s.failed(err)
	}
	ctx = context.WithoutCancel(ctx) // there is no way back
	s.Keys.Forget(id)
	s.changed(ctx)
	s.log(ctx, left, s.Store.FinishRemovals(ctx))
	return nil
}

// changed takes a change up that is stored already: if that fails, Run does it.
func (s *Service) changed(ctx context.Context) {
	err := s.Look(context.WithoutCancel(ctx))
	s.stale.Store(err != nil)
	s.log(ctx, unseen, err)
}

func validID(id string) bool {
	return id != "" && len(id) <= 63 && id[0] >= 'a' && id[0] <= 'z' && !strings.HasSuffix(id, "-") &&
		strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// check refuses what an instance can't have, and brings its domains into their form.
func check(in *Instance) error {
	if strings.TrimSpace(in.Name) == "" || strings.ContainsFunc(in.Name, unicode.IsControl) {
		return badValue("name is empty or contains control characters")
	}
	var err error
	if in.Domains, err = normalized("domains", in.Domains); err != nil {
		return err
	}
	if in.ID != Default && slices.ContainsFunc(in.Domains, loopback) {
		return badValue("domains: localhost and loopback addresses always are the instance " + Default + "'s")
	}
	in.Policy.SenderDomains, err = normalized("sender_domains", in.Policy.SenderDomains)
	return err
}

func normalized(field string, domains []string) ([]string, error) {
	var out []string
	for _, d := range domains {
		name := strings.ToLower(strings.TrimSuffix(d, "."))
		if !validDomain(name) {
			return nil, badValue(field + " has one that is neither a host name without a port, in ASCII, nor an address")
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func badValue(text string) error { return fault.New(fault.InvalidArgument, "MAILKEEP-INSTANCE", text) }

// failed returns what callers are told of a change that was not acknowledged. It may have been made all the
// same: Run looks.
func (s *Service) failed(err error) error {
	s.stale.Store(true)
	return explain(err)
}

// explain turns what a Store answers into what callers are told.
func explain(err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return errNone
	case errors.Is(err, ErrExists):
		return errTaken
	case errors.Is(err, ErrDomainTaken):
		return errDomain
	}
	return err
}

var _ emailprovider.Policies = (*Service)(nil)
