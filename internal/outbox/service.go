package outbox

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
)

// Defaults of Config.
const (
	DefaultLifetime = 5 * 24 * time.Hour
	defaultPage     = 100
	maxPage         = 1000
)

// Providers is what the outbox needs to know of providers.
type Providers interface {
	// GetActive returns the active provider of an instance; a *fault.Error of kind NotFound if
	// there is none.
	GetActive(ctx context.Context, instance string) (emailprovider.Provider, error)
	// Route opens the secret of a provider.
	Route(p emailprovider.Provider) (emailprovider.Route, error)
}

// Config is what a Service and a Worker are made of.
type Config struct {
	Store     Store
	Queue     Queue
	Sealer    Sealer
	Providers Providers
	Carrier   Carrier
	Others    Others // nil if no other process has the store

	Lifetime   time.Duration // of mails that don't say; DefaultLifetime if 0
	KeepBodies bool          // keep the contents of settled mails
	Sessions   int           // mails of one instance that are under way at a time; DefaultSessions if 0
	Lease      time.Duration // that a claim has on a mail, before another worker may take it; DefaultLease if 0

	// Room counts one more open mail of an instance, or returns why it may not have that; nil for no bound.
	Room func(ctx context.Context, instance string) error

	Now func() time.Time // time.Now if nil
	Log *slog.Logger     // slog.Default() if nil
}

// Service is every operation on mails. It is safe for concurrent use.
type Service struct {
	Config
	worker *Worker
	hub    *hub
}

// NewService returns a Service and the Worker that sends what it takes.
func NewService(c Config) (*Service, *Worker) {
	c.Lifetime = cmp.Or(c.Lifetime, DefaultLifetime)
	c.Sessions = cmp.Or(c.Sessions, DefaultSessions)
	c.Lease = cmp.Or(c.Lease, DefaultLease)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	h := newHub()
	if c.Others != nil {
		h.follower = newFollower(c.Others, h, c.Log)
	}
	w := newWorker(c, h)
	return &Service{c, w, h}, w
}

// What callers are told.
var (
	errNoActive = fault.New(fault.FailedPrecondition, "MAILKEEP-NOACTIVE",
		"no email provider is active; activate one first")
	errKeyTaken = fault.New(fault.AlreadyExists, "MAILKEEP-IDEMPOTENCY",
		"idempotency_key was used for another mail")
	errNotFound = fault.New(fault.NotFound, "MAILKEEP-MESSAGE", "message not found")
	errErased   = fault.New(fault.NotFound, "MAILKEEP-ERASED",
		"the content was erased when the mail was settled; serve with --keep-bodies to keep contents")
	errRetryErased = fault.New(fault.FailedPrecondition, "MAILKEEP-ERASED",
		"the content was erased when the mail was settled, so it can't be sent again; serve with --keep-bodies to keep contents")
	errUnreadable = fault.New(fault.FailedPrecondition, "MAILKEEP-SEALED",
		"the stored content can't be opened with the keyset in use; bring back the key")
)

// Send takes a mail and returns its id once it is durable. It is sent by the Worker.
func (s *Service) Send(ctx context.Context, instance string, d Draft) (id string, err error) {
	recipients, err := d.check()
	if err != nil {
		return "", err
	}
	active, err := s.Providers.GetActive(ctx, instance)
	if fault.KindOf(err) == fault.NotFound {
		return s.takenBefore(ctx, instance, d, errNoActive)
	}
	if err != nil {
		return "", err
	}
	if err := s.room(ctx, instance); err != nil {
		return s.takenBefore(ctx, instance, d, err)
	}
	now := s.now()
	m := Message{
		Instance: instance, ID: NewID(now), State: Queued, Recipients: recipients, Tag: d.Tag,
		IdempotencyKey: d.IdempotencyKey, Created: now, Changed: now, Due: now,
		Expires: now.Add(cmp.Or(d.ExpiresIn, s.Lifetime)),
	}
	sealed, err := s.seal(&m, d, active)
	if err != nil {
		return "", err
	}
	then := s.hub.hold(mailKey{m.Instance, m.ID})
	kept, err := s.Store.Accept(ctx, m, sealed)
	if errors.Is(err, ErrKeyTaken) {
		then()
		return s.repeated(kept, d)
	}
	if err != nil {
		then()
		return "", err
	}
	then(kept)
	s.worker.arrived(instance)
	return kept.ID, nil
}

// seal seals what the mail says, and what tells it from others with the same idempotency key.
func (s *Service) seal(m *Message, d Draft, active emailprovider.Provider) (Sealed, error) {
	if d.IdempotencyKey != "" {
		sum, err := fingerprint(d)
		if err != nil {
			return Sealed{}, err
		}
		// A plain hash would let a thief of the database try out one-time codes.
		sealed, err := s.Sealer.SealBytes(m.Instance, sum, associated(fieldFingerprint, m.Instance, m.ID))
		if err != nil {
			return Sealed{}, err
		}
		m.Fingerprint = sealed.Ciphertext
	}
	return sealContent(s.Sealer, *m, Content{
		MessageID: m.ID + "@" + domainOf(active), Lifetime: m.Expires.Sub(m.Created), ReplyTo: d.ReplyTo, Subject: d.Subject, Text: d.Text, HTML: d.HTML,
		Headers: d.Headers, Attachments: d.Attachments,
	})
}

// domainOf is the right side of Message-IDs.
func domainOf(p emailprovider.Provider) string {
	if p.SMTP != nil {
		if _, domain, ok := address.Split(p.SMTP.SenderAddress); ok && address.IsASCII(domain) && !strings.HasPrefix(domain, "[") {
			return domain
		}
	}
	return "mailkeep.invalid" // RFC 2606, section 2
}

func (s *Service) room(ctx context.Context, instance string) error {
	if s.Room == nil {
		return nil
	}
	return s.Room(ctx, instance)
}

// takenBefore answers a call that can take no new mail, which why says: only a repeated one gets its answer
// again.
func (s *Service) takenBefore(ctx context.Context, instance string, d Draft, why error) (id string, err error) {
	if d.IdempotencyKey == "" {
		return "", why
	}
	kept, err := s.Store.MessageByKey(ctx, instance, d.IdempotencyKey)
	if errors.Is(err, ErrNotFound) {
		return "", why
	}
	if err != nil {
		return "", err
	}
	return s.repeated(kept, d)
}

// shut is what callers are told of what does not open: that it never will, unless its key can't be had just now.
func shut(err error) error {
	if fault.KindOf(err) == fault.Unavailable {
		return err
	}
	return errUnreadable.Because(err)
}

// repeated answers a call with an idempotency key that was used for kept.
func (s *Service) repeated(kept Message, d Draft) (id string, err error) {
	was, err := s.Sealer.OpenBytes(kept.Instance, Sealed{Ciphertext: kept.Fingerprint}, associated(fieldFingerprint, kept.Instance, kept.ID))
	if err != nil {
		return "", shut(err)
	}
	is, err := fingerprint(d)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(was, is) {
		return "", errKeyTaken
	}
	return kept.ID, nil
}

// Get returns a mail and its attempts.
func (s *Service) Get(ctx context.Context, instance, id string) (Message, []Attempt, error) {
	m, err := s.Store.Message(ctx, instance, id)
	if err != nil {
		return Message{}, nil, explain(err)
	}
	attempts, err := s.Store.Attempts(ctx, instance, id)
	return m, attempts, err
}

// Content returns what a mail says while it is kept.
func (s *Service) Content(ctx context.Context, instance, id string) (Content, error) {
	m, err := s.Store.Message(ctx, instance, id)
	if err != nil {
		return Content{}, explain(err)
	}
	sealed, err := s.Store.Content(ctx, instance, id)
	if errors.Is(err, ErrNotFound) {
		return Content{}, errErased
	}
	if err != nil {
		return Content{}, err
	}
	c, err := openContent(s.Sealer, m, sealed)
	if err != nil {
		return Content{}, shut(err)
	}
	return c, nil
}

// List returns a page of mails, newest first, and the Filter.After of the next page; that is empty
// after the last.
func (s *Service) List(ctx context.Context, instance string, f Filter) (page []Message, next string, err error) {
	if f.Limit < 0 || f.Limit > maxPage {
		return nil, "", invalid("page_size is above %d", maxPage)
	}
	f.Limit = cmp.Or(f.Limit, defaultPage)
	limit := f.Limit
	f.Limit++ // to see whether there is more
	if page, err = s.Store.Messages(ctx, instance, f); err != nil || len(page) <= limit {
		return page, "", err
	}
	return page[:limit], page[limit-1].ID, nil
}

// Retry makes a mail due at once, or after some attempts as soon as the shortest time between two has
// passed: a queued one in its present life, one that failed or expired in a new one.
func (s *Service) Retry(ctx context.Context, instance, id string) (Message, error) {
	c, err := s.Content(ctx, instance, id)
	if errors.Is(err, errErased) {
		return Message{}, s.refuseRetry(ctx, instance, id)
	}
	if err != nil {
		return Message{}, err
	}
	m, err := s.Store.Message(ctx, instance, id)
	if err != nil {
		return Message{}, explain(err)
	}
	if m.State == Failed || m.State == Expired {
		if err := s.room(ctx, instance); err != nil {
			return Message{}, err
		}
	}
	now := s.now()
	then := s.hub.hold(mailKey{instance, id})
	m, err = s.Store.Requeue(ctx, instance, id, retryAt(m, now), now.Add(c.Lifetime))
	if err != nil {
		then()
		return Message{}, explain(err)
	}
	then(m)
	s.worker.arrived(instance)
	return m, nil
}

// refuseRetry says why a mail without content can't be sent again.
func (s *Service) refuseRetry(ctx context.Context, instance, id string) error {
	m, err := s.Store.Message(ctx, instance, id)
	switch {
	case err != nil:
		return explain(err)
	case m.State == Failed || m.State == Expired:
		return errRetryErased
	}
	return explain(ErrState)
}

// Cancel cancels a mail that waits for an attempt.
func (s *Service) Cancel(ctx context.Context, instance, id string) (Message, error) {
	m, err := s.Store.Cancel(ctx, instance, id, s.now(), s.KeepBodies)
	if err != nil {
		return Message{}, explain(err)
	}
	s.hub.publish(m)
	return m, nil
}

// Uses returns what came of using each version of a provider's credential, newest first.
func (s *Service) Uses(ctx context.Context, instance, providerID string, limit int) ([]Use, error) {
	return s.Store.CredentialUses(ctx, instance, providerID, limit)
}

func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

// explain turns what a store answers into what callers are told.
func explain(err error) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return errNotFound
	case errors.Is(err, ErrState):
		return fault.New(fault.FailedPrecondition, "MAILKEEP-STATE", "the mail is being sent or has ended; see its state")
	}
	return err
}
