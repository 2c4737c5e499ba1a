// Package instance keeps the tenants: who there is, what each may do, and which of them the host of a
// request is for. Tenants share nothing but the program: every row, key and session is one instance's.
//
// There always is Default. While it is alone it answers at any host; once there are others a host that
// is nobody's gets nothing but the same refusal, before its token is looked at.
package instance

import (
	"context"
	"errors"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Default is the id of the instance that every installation has. It can't be removed.
const Default = "default"

// Instance is a tenant.
type Instance struct {
	ID      string
	Name    string
	Domains []string // as Normalize makes them, in order
	Policy  Policy
	Created time.Time // zero of Default
}

// Policy is what an instance may do.
type Policy struct {
	SenderDomains []string // that senders must be in; any if empty
	Limits
}

// Limits are bounds of what an instance takes of the service; 0 is the default of each.
type Limits struct {
	CallsPerSecond uint32
	OpenMails      uint32 // on their way at a time
	Providers      uint32
	Tokens         uint32
}

// Removed is what is left of an instance.
type Removed struct {
	ID, Name         string
	Created, Removed time.Time
	By               string // who removed it
}

// Key is a key of an instance, sealed with the keyset. It is what everything of the instance is sealed with.
type Key struct {
	Instance string
	ID       uint32
	Wrapped  emailprovider.Sealed // bound to the two above
	Created  time.Time
}

// New is an instance with what it begins with.
type New struct {
	Instance
	Key   Key
	Owner auth.Token
}

// What a Store answers besides success and a broken machine, which is a *fault.Error as in
// emailprovider.Store.
var (
	// ErrNotFound: there is no such instance, or it was removed.
	ErrNotFound = errors.New("instance: not found")
	// ErrExists: there is or was an instance with this id.
	ErrExists = errors.New("instance: the id is in use")
	// ErrDomainTaken: a domain is another instance's.
	ErrDomainTaken = errors.New("instance: the domain is in use")
)

// Store keeps instances. Its contract is the suite in storetest; the name in parentheses is the case that
// holds an implementation to the sentence. Whatever a method has acknowledged is durable.
type Store interface {
	// Instances returns those that there are in the order of their ids (Add), and a revision: with the
	// next change of any of them or of their keys it is another (Revision).
	Instances(ctx context.Context) (all []Instance, revision uint64, err error)
	// InstancesRevision returns the present revision (Revision).
	InstancesRevision(ctx context.Context) (uint64, error)

	// CreateInstance makes all of it or nothing (Add). ErrExists also for an id that was removed (Remove);
	// ErrDomainTaken (Domains).
	CreateInstance(ctx context.Context, n New) error
	// UpdateInstance stores what change makes of name, domains and policy, if it returns nil; nobody else
	// changes an instance meanwhile (Update). ErrNotFound, ErrDomainTaken. change may be called again.
	UpdateInstance(ctx context.Context, id string, change func(*Instance) error) error

	// RemoveInstance destroys its keys, tokens, domains and providers in one transaction, and remembers that
	// (Remove). Nothing of it can be used from then on, but the rest of its rows may still be there. ErrNotFound.
	RemoveInstance(ctx context.Context, id, by string) error
	// FinishRemovals deletes all rows that are left of removed instances (Remove).
	FinishRemovals(ctx context.Context) error
	// RemovedInstances returns what is left of those that were removed, in the order of their ids (Remove).
	RemovedInstances(ctx context.Context) ([]Removed, error)
}
