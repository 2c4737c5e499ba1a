package emailprovider

import (
	"context"
	"errors"
	"time"
)

// What a Store answers besides success and a broken machine. A Store wraps failures that may pass
// (locked, full, gone) in a *fault.Error of kind Unavailable or ResourceExhausted.
var (
	// ErrNotFound: no such provider in this instance.
	ErrNotFound = errors.New("emailprovider: not found")
	// ErrConflict: the provider is not at the expected sequence any more; load and decide again.
	ErrConflict = errors.New("emailprovider: changed meanwhile")
	// ErrIDTaken: the id of a new provider is or was in use, in whatever instance.
	ErrIDTaken = errors.New("emailprovider: id taken")
)

// Store keeps providers and their events. Its contract is the suite in storetest; the name in
// parentheses is the case that holds an implementation to the sentence.
//
// Reads see every change that Apply has acknowledged (ReadYourWrites). Instances never see each
// other (Instances).
type Store interface {
	// Provider returns one provider, or ErrNotFound (Get).
	Provider(ctx context.Context, instance, id string) (Provider, error)

	// Recent returns a provider as this process has last seen it, if it remembers: without asking the
	// database, so that it may have been changed since. Only Apply can tell (Recent).
	Recent(instance, id string) (Provider, bool)

	// Active returns the active provider of the instance, or ErrNotFound (Active).
	Active(ctx context.Context, instance string) (Provider, error)

	// List returns a page and the totals it is part of, all as of one moment (List).
	List(ctx context.Context, instance string, q Query) (Page, error)

	// Apply makes a change and its event durable, both or neither (Atomic), and returns the
	// change's sequence: one more than the instance's last, whatever the provider (Sequence).
	//
	// c.Expect is the sequence that the stored provider must still have, else ErrConflict; 0 adds a
	// new one (Conflict). A provider removed meanwhile is ErrConflict too, and so is one resealed
	// meanwhile (c.ExpectKey): its old ciphertext must not come back (Resealed). A new provider whose id
	// any instance has ever used is ErrIDTaken (IDs). An update whose Put.Previous is neither the stored
	// previous nor the stored present credential, by version, is ErrConflict: a destroyed one must not
	// come back (DestroyPrevious). If c.Put is active, a provider that was
	// active becomes inactive in the same change, with its sequence and date (Activate).
	Apply(ctx context.Context, c Change) (sequence uint64, err error)

	// DestroyPrevious destroys every previous credential whose time was up at now, over all
	// instances, and returns how many. It is not a change of a provider: no event, no sequence
	// (DestroyPrevious).
	DestroyPrevious(ctx context.Context, now time.Time) (int, error)

	// Events returns events of the instance with a sequence above after, oldest first, at most
	// limit; of one provider if providerID is not empty (Events).
	Events(ctx context.Context, instance, providerID string, after uint64, limit int) ([]Event, error)
}

// Change is one decided change: the event, and the provider as it is afterwards.
type Change struct {
	Event     Event
	Expect    uint64
	ExpectKey uint32    // key that the stored secret must still be sealed with; 0 for no secret
	Put       *Provider // nil removes the provider; Put.Sequence is given by Apply
}

// Vault is the part of a store that key rotation works on. Resealing is not a change of a provider:
// it has no event and no sequence.
type Vault interface {
	// KeysInUse returns the ids of the keys that stored secrets are sealed with, in ascending
	// order (Vault).
	KeysInUse(ctx context.Context) ([]uint32, error)

	// SealedBy returns at most limit providers of all instances whose secret is sealed with the
	// key, ordered by instance and id, after the given pair (Vault).
	SealedBy(ctx context.Context, keyID uint32, afterInstance, afterID string, limit int) ([]Provider, error)

	// Reseal replaces the stored ciphertext if it still is the one in p, else ErrConflict (Vault).
	Reseal(ctx context.Context, p Provider, sealed Sealed) error
}

// Query chooses a page of a list.
type Query struct {
	Offset    uint64
	Limit     uint32 // at most this many; the service has replaced 0 by MaxLimit
	Ascending bool   // by creation, then id; else the reverse of that
	SMTPOnly  bool
}

// Page is part of a list.
type Page struct {
	Providers []Provider
	Total     uint64 // of all pages
	Sequence  uint64 // of the instance's last change
}
