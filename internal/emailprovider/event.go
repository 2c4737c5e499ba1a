package emailprovider

import (
	"context"
	"fmt"
	"time"
)

// EventType names what happened to a provider.
type EventType string

// The events. Each change has exactly one.
const (
	EventAdded              EventType = "provider.added"
	EventUpdated            EventType = "provider.updated"
	EventPasswordChanged    EventType = "provider.password_changed"
	EventPasswordRolledBack EventType = "provider.password_rolled_back"
	EventActivated          EventType = "provider.activated"
	EventDeactivated        EventType = "provider.deactivated"
	EventRemoved            EventType = "provider.removed"
)

// Event is the record of one change: who, when, what. It never holds a secret.
type Event struct {
	Instance   string
	Sequence   uint64 // given by Store.Apply
	Type       EventType
	ProviderID string
	At         time.Time
	By         Actor

	// Fields names the settings that the change set, in the words of the API ("host", "password").
	Fields []string
	// CredentialVersion is the provider's version after the change.
	CredentialVersion uint64
	// KeptCredential says that the stored secret now goes to another host, port or user, or in
	// plain text: allowed in the binding mode Compatible only.
	KeptCredential bool
}

// Actor is who made a change and how.
type Actor struct {
	TokenID   string
	Name      string // name of the token
	Protocol  string // connect, grpc, grpcweb, rest
	Procedure string // such as /zitadel.admin.v1.AdminService/UpdateSMTPConfigPassword
	UserAgent string
	RequestID string
}

// maxEvents is the largest page of events, and someEvents the page when none is asked for.
const (
	maxEvents  = 1000
	someEvents = 100
)

// Events returns what was changed of a provider, a removed one too: at most limit events (0 for 100)
// with a sequence above after, oldest first, and the after of the next page; that is 0 after the
// last. NotFound if there was never a provider with this id.
func (s *Service) Events(ctx context.Context, instance, id string, after uint64, limit int) (page []Event, next uint64, err error) {
	page, next, err = s.events(ctx, instance, id, after, limit)
	if err == nil && len(page) == 0 {
		err = s.hadProvider(ctx, instance, id)
	}
	return page, next, err
}

// AllEvents is Events for all providers of the instance.
func (s *Service) AllEvents(ctx context.Context, instance string, after uint64, limit int) (page []Event, next uint64, err error) {
	return s.events(ctx, instance, "", after, limit)
}

// events returns a page, which may be empty.
func (s *Service) events(ctx context.Context, instance, id string, after uint64, limit int) (page []Event, next uint64, err error) {
	if limit < 0 || limit > maxEvents {
		return nil, 0, invalid(idValue, fmt.Sprintf("page_size is not from 1 to %d", maxEvents))
	}
	if limit == 0 {
		limit = someEvents
	}
	page, err = s.Store.Events(ctx, instance, id, after, limit+1) // to see whether there is more
	if err == nil && len(page) > limit {
		return page[:limit], page[limit-1].Sequence, nil
	}
	return page, 0, err
}

// hadProvider returns NotFound if there was never a provider with this id: each has an event.
func (s *Service) hadProvider(ctx context.Context, instance, id string) error {
	first, err := s.Store.Events(ctx, instance, id, 0, 1)
	if err == nil && len(first) == 0 {
		return notFound(idQuery)
	}
	return err
}
