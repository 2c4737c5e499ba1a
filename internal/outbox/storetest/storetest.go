// Package storetest is the contract of outbox.Store and outbox.Queue as a test suite.
package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// Store is what the suite needs: a queue takes the active provider from the store that it is in.
type Store interface {
	outbox.Store
	outbox.Queue
	emailprovider.Store
}

// Opener returns a fresh store that has the instances named, without providers and mails.
type Opener func(t *testing.T, instances ...string) Store

// Run holds the stores that open returns to the contracts. A store may keep times to the microsecond.
func Run(t *testing.T, open Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"Accept", testAccept},
		{"CountOpen", testCountOpen},
		{"IdempotencyKey", testIdempotencyKey},
		{"Versions", testVersions},
		{"Settle", testSettle},
		{"Messages", testMessages},
		{"Cancel", testCancel},
		{"Requeue", testRequeue},
		{"Uses", testUses},
		{"Claim", testClaim},
		{"Lease", testLease},
		{"FreshProvider", testFreshProvider},
		{"NoProvider", testNoProvider},
		{"Breaker", testBreaker},
		{"Probes", testProbes},
		{"Fence", testFence},
		{"Superseded", testSuperseded},
		{"Expire", testExpire},
		{"Waiting", testWaiting},
		{"Instances", testInstances},
		{"ConcurrentClaims", testConcurrentClaims},
		{"Conservation", testConservation},
		{"EndedContext", testEndedContext},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

const (
	one = "instance-1"
	two = "instance-2"

	lease      = time.Minute
	probeAfter = 2 * time.Minute
)

// moment returns the n-th second of the tests' time.
func moment(n int) time.Time {
	return time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC).Add(time.Duration(n) * time.Second)
}

// mail returns a mail that is taken and due at the n-th moment, in which every field of a new mail is set.
func mail(instance string, n int) outbox.Message {
	return outbox.Message{
		Instance: instance,
		ID:       outbox.NewID(moment(n)),
		State:    outbox.Queued,
		Recipients: []outbox.Recipient{
			{Address: "Jürgen@example.com", Kind: outbox.To, State: outbox.Pending},
			{Address: "B@example.com", Kind: outbox.Bcc, State: outbox.Pending},
		},
		Tag:            "password-reset 📬",
		IdempotencyKey: fmt.Sprintf("key %d", n),
		Fingerprint:    []byte{0, 1, 0xff, byte(n)},
		Created:        moment(n),
		Changed:        moment(n),
		Due:            moment(n),
		Expires:        moment(n + 1000),
	}
}

// plain returns a mail like most: to one, without a tag or a key.
func plain(instance string, n int) outbox.Message {
	m := mail(instance, n)
	m.Recipients, m.Tag, m.IdempotencyKey, m.Fingerprint = m.Recipients[:1], "", "", nil
	return m
}

func contentOf(m outbox.Message) outbox.Sealed {
	return outbox.Sealed{KeyID: 1<<32 - 1, Ciphertext: []byte("sealed\x00 " + m.ID)}
}

func accept(t *testing.T, s Store, m outbox.Message) outbox.Message {
	t.Helper()
	kept, err := s.Accept(t.Context(), m, contentOf(m))
	if err != nil {
		t.Fatalf("Accept: %v", err)
	}
	return kept
}

// activate adds an active provider with the first version of its credential.
func activate(t *testing.T, s Store, instance string, n int) emailprovider.Provider {
	t.Helper()
	return apply(t, s, emailprovider.EventAdded, emailprovider.Provider{
		Instance: instance,
		ID:       fmt.Sprintf("%018d", n),
		State:    emailprovider.Active,
		SMTP:     &emailprovider.SMTP{SenderAddress: "a@example.com", Host: "smtp.example.com:587", TLS: true, User: "u", Auth: emailprovider.AuthPlain},
		Credential: emailprovider.Credential{
			Version: 1, Sealed: emailprovider.Sealed{KeyID: 7, Ciphertext: []byte("secret 1")}, SetAt: moment(0), SetBy: "me",
		},
		Created: moment(0),
		Changed: moment(0),
	})
}

// rotate gives the provider its next credential.
func rotate(t *testing.T, s Store, p emailprovider.Provider) emailprovider.Provider {
	t.Helper()
	p.Credential.Version++
	p.Credential.Sealed.Ciphertext = fmt.Append(nil, "secret ", p.Credential.Version)
	return apply(t, s, emailprovider.EventPasswordChanged, p)
}

func apply(t *testing.T, s Store, kind emailprovider.EventType, p emailprovider.Provider) emailprovider.Provider {
	t.Helper()
	c := emailprovider.Change{
		Event:  emailprovider.Event{Instance: p.Instance, Type: kind, ProviderID: p.ID, At: p.Changed},
		Expect: p.Sequence, Put: &p,
	}
	if p.Sequence > 0 {
		c.ExpectKey = p.Credential.Sealed.KeyID
	}
	sequence, err := s.Apply(t.Context(), c)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	p.Sequence = sequence
	return p
}

// claim takes at most limit mails at the n-th moment, with a lease of a minute.
func claim(t *testing.T, s Store, instance string, n, limit int) outbox.Claim {
	t.Helper()
	c, err := s.Claim(t.Context(), request(instance, n, limit))
	if err != nil {
		t.Fatalf("Claim: %v", err)
	}
	return c
}

func request(instance string, n, limit int) outbox.ClaimRequest {
	return outbox.ClaimRequest{
		Instance: instance, Now: moment(n), Until: moment(n).Add(lease), Limit: limit, ProbeAfter: probeAfter,
	}
}

// claimOne fails unless exactly one mail is there to be claimed.
func claimOne(t *testing.T, s Store, instance string, n int) outbox.ClaimedMail {
	t.Helper()
	c := claim(t, s, instance, n, 10)
	if len(c.Mails) != 1 {
		t.Fatalf("claimed %d mails, want 1", len(c.Mails))
	}
	return c.Mails[0]
}

// settle fails unless all settlements are taken.
func settle(t *testing.T, s Store, all ...outbox.Settlement) {
	t.Helper()
	if refused, err := s.Settle(t.Context(), all); err != nil || len(refused) > 0 {
		t.Fatalf("Settle: %v refused, %v", refused, err)
	}
}

// settlementsOf gives all mails the same fate at the n-th moment.
func settlementsOf(mails []outbox.ClaimedMail, state outbox.State, n int) (all []outbox.Settlement) {
	for _, m := range mails {
		all = append(all, outbox.Settlement{Lease: m.Lease(), At: moment(n), State: state, Due: moment(n)})
	}
	return all
}

// attempt is one with a provider's present credential, at the n-th moment.
func attempt(p emailprovider.Provider, n int) *outbox.Attempt {
	return &outbox.Attempt{
		Number: 1, ProviderID: p.ID, CredentialVersion: p.Credential.Version,
		Started: moment(n - 1), Ended: moment(n),
		Steps: []emailprovider.StepTime{{Step: emailprovider.StepAuth, Took: time.Second}, {Step: emailprovider.StepData, Took: time.Minute}},
	}
}

// wantMessage fails unless the store has exactly want.
func wantMessage(t *testing.T, s Store, want outbox.Message) {
	t.Helper()
	got, err := s.Message(t.Context(), want.Instance, want.ID)
	if err != nil {
		t.Fatalf("Message: %v", err)
	}
	wantEqual(t, "Message", got, want)
}

// wantEqual leaves versions to testVersions.
func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(outbox.Message{}, "Version")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// wantClaimed fails unless these mails are claimed, in this order.
func wantClaimed(t *testing.T, what string, c outbox.Claim, want ...outbox.Message) {
	t.Helper()
	var got, ids []string
	for _, m := range c.Mails {
		got = append(got, m.ID)
	}
	for _, m := range want {
		ids = append(ids, m.ID)
	}
	wantEqual(t, what, got, ids)
}
