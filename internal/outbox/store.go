package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// What a Store answers besides success and a broken machine, which is a *fault.Error as in
// emailprovider.Store.
var (
	// ErrNotFound: no such mail in this instance, or its content is erased.
	ErrNotFound = errors.New("outbox: not found")
	// ErrState: the mail is not in a state for this.
	ErrState = errors.New("outbox: not in this state")
	// ErrMark: what has changed since the mark can't be told.
	ErrMark = errors.New("outbox: changes since then are not known")
	// ErrKeyTaken: the idempotency key belongs to another mail.
	ErrKeyTaken = errors.New("outbox: idempotency key taken")
)

// Store keeps mails. Its contract is the suite in storetest; the name in parentheses is the case that
// holds an implementation to the sentence. Instances never see each other (Instances). Everything that
// a method has acknowledged is durable, and reads see it. Each change of a mail gives it a higher version,
// which Extend does not (Versions).
type Store interface {
	// Accept makes a new mail durable as queued and due at m.Due, with its sealed content (Accept).
	// If m.IdempotencyKey is not empty and the instance has a mail with it, nothing is stored, the
	// error is ErrKeyTaken, and the returned mail is that one (IdempotencyKey).
	Accept(ctx context.Context, m Message, content Sealed) (Message, error)

	// Message returns a mail, or ErrNotFound (Accept).
	Message(ctx context.Context, instance, id string) (Message, error)
	// MessageByKey returns the mail with an idempotency key, or ErrNotFound (IdempotencyKey).
	MessageByKey(ctx context.Context, instance, key string) (Message, error)
	// Attempts returns the attempts of a mail, oldest first (Settle).
	Attempts(ctx context.Context, instance, id string) ([]Attempt, error)
	// Content returns the sealed content of a mail, or ErrNotFound once it is erased (Settle).
	Content(ctx context.Context, instance, id string) (Sealed, error)
	// Messages returns the mails that match, newest first (Messages).
	Messages(ctx context.Context, instance string, f Filter) ([]Message, error)

	// CountOpen returns how many mails of the instance are queued or being sent (CountOpen).
	CountOpen(ctx context.Context, instance string) (int, error)

	// Cancel settles a queued mail as cancelled and returns it; a cancelled one is returned as it is,
	// any other is ErrState (Cancel). Its content is erased unless keep is true.
	Cancel(ctx context.Context, instance, id string, at time.Time, keep bool) (Message, error)
	// Requeue makes a queued mail due at once. One that failed or expired, and still has its
	// content, is queued again with a new end of life, its refused recipients pending again. Any
	// other is ErrState, one without content ErrNotFound (Requeue).
	Requeue(ctx context.Context, instance, id string, at, expires time.Time) (Message, error)

	// CredentialUses returns what came of using each version of a provider's credential, newest first, at
	// most limit (Uses).
	CredentialUses(ctx context.Context, instance, providerID string, limit int) ([]Use, error)
}

// Queue is the part of a store that workers live on.
type Queue interface {
	// Claim takes open mails that are due at c.Now, the longest due first: queued ones, and those
	// being sent whose lease has passed. They become sending, and their new version is the fence of
	// a lease until c.Until. The mails, the active provider and its sealed secret are read in
	// the one transaction that takes the mails (Claim, Lease, FreshProvider). Without an active
	// provider, or while its breaker is open, nothing is taken (NoProvider, Breaker); when the
	// breaker's probe is due, one mail is, however many claim (Probes), and the next probe is c.ProbeAfter later.
	Claim(ctx context.Context, c ClaimRequest) (Claim, error)

	// Extend gives claimed mails a lease until the time, and returns those whose fence is not the
	// present one any more or that are not being sent (Lease).
	Extend(ctx context.Context, claims []Lease, until time.Time) (lost []Lease, err error)

	// Settle records what became of claimed mails, all or none, and returns those that it refused
	// because the fence is not the present one or the mail is not being sent: nothing is recorded
	// of these (Fence). A mail in a final state loses its content unless s.Keep is true (Settle).
	// Attempts also count in the uses of their provider's credential, with the text of a failure that is not about
	// the mail (Uses); one that ends with the
	// credential refused opens the breaker, one that has authenticated since then closes it (Breaker). If the
	// provider's credential is not at the attempt's version any more when it was refused, the mail
	// is due at once (Superseded).
	Settle(ctx context.Context, settlements []Settlement) (refused []Lease, err error)

	// Expire settles at most limit mails of the instance that are due and past their end of life as
	// expired, claimed ones only when their lease has passed, and returns them (Expire).
	Expire(ctx context.Context, instance string, now time.Time, limit int, keep bool) ([]Message, error)

	// Waiting returns each instance that has open mails, in the order of their names, with the time when its
	// first is due and the sequence of its active provider, whoever has changed that (Waiting).
	Waiting(ctx context.Context) ([]Wait, error)
}

// Others tells what becomes of mails, whichever process has done it.
type Others interface {
	// Changes returns each mail of the instances that was changed since a mark, once and as it is now, and
	// the mark of now; with an empty mark no mails. Whatever becomes visible after that is returned for the
	// new mark (Changes). If it can't be told what has changed since, or that is more than limit, the
	// error is ErrMark, and the mark good all the same.
	Changes(ctx context.Context, instances []string, since Mark, limit int) ([]Message, Mark, error)
}

// Mark is when Others were asked.
type Mark string

// Sealed is content in encrypted form.
type Sealed = emailprovider.Sealed

// Filter chooses mails. Zero fields match everything.
type Filter struct {
	States     []State
	Tag        string
	Recipient  string // an address, compared without case
	ProviderID string // of the latest attempt
	From       time.Time
	Before     time.Time
	After      string // id of the last mail of the page before
	Limit      int    // at least 1
}

// ClaimRequest is what a worker wants.
type ClaimRequest struct {
	Instance   string
	Now        time.Time
	Until      time.Time // end of the lease
	Limit      int
	ProbeAfter time.Duration
}

// Claim is what a worker got.
type Claim struct {
	// Provider is the active one; its ID is empty if there is none.
	Provider emailprovider.Provider
	Mails    []ClaimedMail
	// Probe is when the open breaker lets one mail through; zero when it is closed.
	Probe time.Time
}

// ClaimedMail is a mail that a worker may send.
type ClaimedMail struct {
	Message
	Content Sealed
}

// Lease returns what its worker has of it.
func (m ClaimedMail) Lease() Lease { return Lease{m.Instance, m.ID, m.Version} }

// Lease names a claimed mail.
type Lease struct {
	Instance, ID string
	Fence        uint64 // the mail's version since it was claimed
}

// Settlement is what became of a claimed mail.
type Settlement struct {
	Lease
	At         time.Time
	State      State // any but Sending and Cancelled; Queued puts it back
	Reason     string
	Due        time.Time   // for Queued
	Recipients []Recipient // as they are now; none if they are as they were
	Attempt    *Attempt    // nil if nothing was tried
	// CredentialRefused: the provider said that the credential is wrong, and the attempt is not the
	// mail's fault.
	CredentialRefused bool
	CertExpires       time.Time // of the server's certificate; zero if none was seen
	Keep              bool      // keep the content
}

// Wait is when an instance has something to do.
type Wait struct {
	Instance string
	Due      time.Time
	Sequence uint64 // of the active provider; 0 if there is none
}
