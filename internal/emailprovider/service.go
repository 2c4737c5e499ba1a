package emailprovider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// MaxLimit is the largest page of a list, and the page when none is asked for.
const MaxLimit = 1000

// attempts bounds how often a command that lost a race is decided again.
const attempts = 16

// BindingMode says what happens to a stored secret when its host, port, user or transport changes
// and the request does not bring the secret again.
type BindingMode string

// The modes.
const (
	Strict     BindingMode = "strict"     // the change is refused
	Compatible BindingMode = "compatible" // the secret moves along, and the event says so
)

// Policies knows what each instance demands.
type Policies interface {
	Policy(ctx context.Context, instance string) (Policy, error)
}

// Caller is who calls, and for which instance.
type Caller struct {
	Instance string
	Actor    Actor
}

// Config is what a Service is made of.
type Config struct {
	Store    Store
	Sealer   Sealer
	Mailer   Mailer
	Policies Policies
	Binding  BindingMode
	Egress   Egress // what settings must not name; nil leaves that to the Mailer

	// VerifyCompatible is how SetPassword verifies, whose callers expect it not to; VerifyOff if
	// empty.
	VerifyCompatible VerifyMode
	// KeepPrevious is how long a replaced password can be brought back; zero keeps none.
	KeepPrevious time.Duration
	// Room returns why an instance may not have one more provider; nil for no bound.
	Room func(ctx context.Context, instance string) error

	Now   func() time.Time // time.Now if nil
	NewID func() string    // 18 random digits if nil
	Log   *slog.Logger     // slog.Default() if nil
}

// Service is every operation on email providers. It is safe for concurrent use.
type Service struct{ Config }

// NewService returns a Service.
func NewService(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = randomID
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Binding == "" {
		c.Binding = Strict
	}
	if c.VerifyCompatible == "" {
		c.VerifyCompatible = VerifyOff
	}
	return &Service{c}
}

// randomID returns 18 decimal digits, the first not zero.
func randomID() string {
	lowest := big.NewInt(1e17)
	n, _ := rand.Int(rand.Reader, big.NewInt(9e17)) // never fails (crypto/rand)
	return n.Add(n, lowest).String()
}

// decision is what a command wants of one provider. The zero decision wants nothing.
type decision struct {
	event  EventType
	fields []string // names of changed settings
	remove bool
	secret secretAction
	plain  secret.Text // for setSecret
	kept   bool        // the stored secret goes where it did not go before
}

// secretAction is what becomes of the stored secret.
type secretAction int

const (
	keepSecret  secretAction = iota // seal it again if its binding changed
	setSecret                       // the next version
	clearSecret                     // none is stored any more
)

// change loads the provider, lets decide alter it, and applies what it decided; a lost race is
// decided again. A decision without an event changes nothing. Nothing is held while decide runs, so
// it may take its time.
func (s *Service) change(ctx context.Context, c Caller, id string, ids commandIDs, decide func(p *Provider) (decision, error)) (Provider, error) {
	if id == "" && ids.noID != "" {
		return Provider{}, invalid(ids.noID, "id is empty")
	}
	for range attempts {
		p, err := s.Store.Provider(ctx, c.Instance, id)
		if errors.Is(err, ErrNotFound) {
			return Provider{}, notFound(ids.notFound)
		}
		if err != nil {
			return Provider{}, err
		}
		next := p.clone()
		d, err := decide(&next)
		if err != nil || d.event == "" {
			return p, err
		}
		changed, err := s.apply(ctx, c, p, &next, d)
		if !errors.Is(err, ErrConflict) {
			return changed, err
		}
	}
	return Provider{}, errBusy
}

// changeRecent is change for a decide that asks nobody. It is first given the provider as the store
// remembers it: if that is not so any more, Apply says so. Only then, and when there seems to be nothing
// to change, is the provider loaded.
func (s *Service) changeRecent(ctx context.Context, c Caller, id string, ids commandIDs, decide func(p *Provider) (decision, error)) (Provider, error) {
	if p, ok := s.Store.Recent(c.Instance, id); ok {
		next := p.clone()
		if d, err := decide(&next); err == nil && d.event != "" {
			changed, err := s.apply(ctx, c, p, &next, d)
			if !errors.Is(err, ErrConflict) {
				return changed, err
			}
		}
	}
	return s.change(ctx, c, id, ids, decide)
}

// apply seals what the decision has to say about the secret and makes the change of was into next.
func (s *Service) apply(ctx context.Context, c Caller, was Provider, next *Provider, d decision) (Provider, error) {
	now := s.Now().UTC().Truncate(time.Microsecond)
	if now.Before(was.Changed) {
		now = was.Changed // a clock that went back must not turn the order of dates
	}
	next.Changed = now
	if was.Sequence == 0 {
		next.Created = now
	}
	if err := s.sealSecret(c, was, next, d); err != nil {
		return Provider{}, err
	}
	next.Previous = s.keepPrevious(was, *next, d)
	change := Change{
		Expect:    was.Sequence,
		ExpectKey: was.Credential.Sealed.KeyID,
		Put:       next,
		Event: Event{
			Instance: c.Instance, Type: d.event, ProviderID: next.ID, At: now, By: c.Actor,
			Fields: d.fields, CredentialVersion: next.Credential.Version, KeptCredential: d.kept,
		},
	}
	if d.remove {
		change.Put = nil
	}
	sequence, err := s.Store.Apply(ctx, change)
	next.Sequence = sequence
	return *next, err
}

// sealSecret carries out what the decision says about the secret.
func (s *Service) sealSecret(c Caller, was Provider, next *Provider, d decision) (err error) {
	switch {
	case d.secret == setSecret:
		next.Credential = Credential{Version: was.Credential.Version + 1, SetAt: next.Changed, SetBy: c.Actor.Name}
		next.Credential.Sealed, err = s.Sealer.Seal(d.plain, next.binding())
	case d.secret == clearSecret:
		next.Credential = Credential{Version: was.Credential.Version}
	case next.Credential.Stored() && next.binding() != was.binding():
		plain, openErr := s.open(was)
		if openErr != nil {
			return openErr
		}
		next.Credential.Sealed, err = s.Sealer.Seal(plain, next.binding())
	}
	return err
}

// open returns the provider's secret, empty when none is stored.
func (s *Service) open(p Provider) (secret.Text, error) {
	if !p.Credential.Stored() {
		return secret.Text{}, nil
	}
	plain, err := s.Sealer.Open(p.Credential.Sealed, p.binding())
	if fault.KindOf(err) == fault.Unavailable {
		return secret.Text{}, err // it may open later
	}
	if err != nil {
		s.Log.Error("a stored secret does not open", "instance", p.Instance, "provider", p.ID,
			"credential_version", p.Credential.Version, "key_id", p.Credential.Sealed.KeyID)
		return secret.Text{}, errSealed.Because(err)
	}
	return plain, nil
}

// Route returns what is needed to send through a stored provider: its settings with the secret opened.
func (s *Service) Route(p Provider) (Route, error) {
	plain, err := s.open(p)
	return Route{
		Instance: p.Instance, ProviderID: p.ID, Description: p.Description, Sequence: p.Sequence,
		CredentialVersion: p.Credential.Version, SMTP: p.SMTP, HTTP: p.HTTP, CA: p.CA, Secret: plain,
	}, err
}

// add makes a new inactive provider under an id that was never used.
func (s *Service) add(ctx context.Context, c Caller, p Provider, d decision) (Provider, error) {
	p.Instance, d.event = c.Instance, EventAdded
	if s.Room != nil {
		if err := s.Room(ctx, c.Instance); err != nil {
			return Provider{}, err
		}
	}
	for range attempts {
		p.ID = s.NewID()
		added, err := s.apply(ctx, c, Provider{}, &p, d)
		if !errors.Is(err, ErrIDTaken) {
			return added, err
		}
	}
	return Provider{}, errNoID
}

// Activate makes a provider the active one and the former one inactive. An active provider stays as
// it is.
func (s *Service) Activate(ctx context.Context, c Caller, id string) (Provider, error) {
	return s.changeRecent(ctx, c, id, activate, func(p *Provider) (decision, error) {
		return setState(p, Active, EventActivated)
	})
}

// Deactivate makes a provider inactive. An inactive one stays as it is.
func (s *Service) Deactivate(ctx context.Context, c Caller, id string) (Provider, error) {
	return s.changeRecent(ctx, c, id, deactivate, func(p *Provider) (decision, error) {
		return setState(p, Inactive, EventDeactivated)
	})
}

func setState(p *Provider, to State, event EventType) (decision, error) {
	if p.State == to {
		return decision{}, nil
	}
	p.State = to
	return decision{event: event, fields: []string{"state"}}, nil
}

// Remove removes a provider and its secrets; the active one too, and then none is active.
func (s *Service) Remove(ctx context.Context, c Caller, id string) (Provider, error) {
	return s.changeRecent(ctx, c, id, remove, func(*Provider) (decision, error) {
		return decision{event: EventRemoved, remove: true, secret: clearSecret}, nil
	})
}

// Get returns a provider, or NotFound.
func (s *Service) Get(ctx context.Context, instance, id string) (Provider, error) {
	return found(s.Store.Provider(ctx, instance, id))
}

// GetActive returns the active provider, or NotFound.
func (s *Service) GetActive(ctx context.Context, instance string) (Provider, error) {
	return found(s.Store.Active(ctx, instance))
}

func found(p Provider, err error) (Provider, error) {
	if errors.Is(err, ErrNotFound) {
		return Provider{}, notFound(idQuery)
	}
	return p, err
}

// RequireSMTP turns an HTTP provider into NotFound, for callers that know of SMTP only.
func RequireSMTP(p Provider, err error) (Provider, error) {
	if err == nil && p.SMTP == nil {
		return Provider{}, notFound(idQuery)
	}
	return p, err
}

// List returns a page of providers and the time it is of.
func (s *Service) List(ctx context.Context, instance string, q Query) (Page, time.Time, error) {
	if q.Limit > MaxLimit {
		return Page{}, time.Time{}, fault.New(fault.InvalidArgument, "QUERY-4M0fs", fmt.Sprintf("limit is above %d", MaxLimit))
	}
	if q.Limit == 0 {
		q.Limit = MaxLimit
	}
	at := s.Now().UTC()
	page, err := s.Store.List(ctx, instance, q)
	return page, at, err
}
