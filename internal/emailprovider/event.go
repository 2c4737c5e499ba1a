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
// with a sequence above after, oldest first.
func (s *Service) Events(ctx context.Context, instance, id string, after uint64, limit int) ([]Event, error) {
	if limit < 0 || limit > maxEvents {
		return nil, invalid(idValue, fmt.Sprintf("page_size is not from 1 to %d", maxEvents))
	}
	if limit == 0 {
		limit = someEvents
	}
	return s.Store.Events(ctx, instance, id, after, limit)
}
