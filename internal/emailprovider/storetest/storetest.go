// Package storetest is the contract of emailprovider.Store and emailprovider.Vault as a test suite.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Opener returns a fresh store that has the instances named, without providers.
type Opener func(t *testing.T, instances ...string) emailprovider.Store

// Run holds the stores that open returns to the contract of emailprovider.Store. A store may keep
// times to the microsecond.
func Run(t *testing.T, open Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"Get", testGet},
		{"Active", testActive},
		{"Recent", testRecent},
		{"List", testList},
		{"Atomic", testAtomic},
		{"Sequence", testSequence},
		{"Conflict", testConflict},
		{"IDs", testIDs},
		{"Activate", testActivate},
		{"Events", testEvents},
		{"Instances", testInstances},
		{"ReadYourWrites", testReadYourWrites},
		{"ConcurrentUpdates", testConcurrentUpdates},
		{"ConcurrentActivates", testConcurrentActivates},
		{"DestroyPrevious", testDestroyPrevious},
		{"EndedContext", testEndedContext},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

const (
	one = "instance-1"
	two = "instance-2"
)

// moment returns the n-th second of the tests' time.
func moment(n int) time.Time {
	return time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC).Add(time.Duration(n) * time.Second)
}

// id returns the n-th id.
func id(n int) string { return fmt.Sprintf("%018d", n) }

// smtp returns a provider in which every field of an SMTP provider is set.
func smtp(instance string, n int) emailprovider.Provider {
	return emailprovider.Provider{
		Instance:    instance,
		ID:          id(n),
		Description: "mails for all 📬",
		SMTP: &emailprovider.SMTP{
			SenderAddress: "noreply@example.com",
			SenderName:    "Example",
			ReplyTo:       "help@example.com",
			Host:          "smtp.example.com:587",
			TLS:           true,
			User:          "mailer",
			Auth:          emailprovider.AuthXOAuth2,
			XOAuth2: emailprovider.XOAuth2{
				TokenEndpoint: "https://login.example.com/token",
				ClientID:      "client",
				Scopes:        []string{"mail.send", "offline access"},
			},
		},
		CA: "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
		Credential: emailprovider.Credential{
			Version: 3,
			Sealed:  emailprovider.Sealed{KeyID: 1<<32 - 1, Ciphertext: []byte{0, 1, 2, 0xff, 0}},
			SetAt:   moment(n),
			SetBy:   "terraform",
		},
		Previous: emailprovider.Previous{
			Credential: emailprovider.Credential{
				Version: 2,
				Sealed:  emailprovider.Sealed{KeyID: 6, Ciphertext: []byte{3, 0, 0xfe}},
				SetAt:   moment(n - 1),
				SetBy:   "console",
			},
			User:  "former",
			Until: moment(n + 86400),
		},
		Created: moment(n),
		Changed: moment(n + 1),
	}
}

// http returns a webhook without a secret.
func http(instance string, n int) emailprovider.Provider {
	return emailprovider.Provider{
		Instance: instance,
		ID:       id(n),
		HTTP:     &emailprovider.HTTP{Endpoint: "https://hooks.example.com/mail?x=1"},
		Created:  moment(n),
		Changed:  moment(n),
	}
}

func event(p emailprovider.Provider, kind emailprovider.EventType) emailprovider.Event {
	return emailprovider.Event{
		Instance:   p.Instance,
		Type:       kind,
		ProviderID: p.ID,
		At:         p.Changed,
		By: emailprovider.Actor{
			TokenID: "7", Name: "terraform", Protocol: "rest", Procedure: "/a.b.C/D", UserAgent: "curl/8",
			RequestID: "r-1",
		},
		Fields:            []string{"host", "password"},
		CredentialVersion: p.Credential.Version,
		KeptCredential:    true,
	}
}

// put adds p, or updates it if it has a sequence, and returns it with its new sequence.
func put(t *testing.T, s emailprovider.Store, p emailprovider.Provider) emailprovider.Provider {
	t.Helper()
	kind := emailprovider.EventUpdated
	if p.Sequence == 0 {
		kind = emailprovider.EventAdded
	}
	stored, err := s.Provider(t.Context(), p.Instance, p.ID)
	if err != nil && !errors.Is(err, emailprovider.ErrNotFound) {
		t.Fatal(err)
	}
	sequence, err := s.Apply(t.Context(), emailprovider.Change{
		Event: event(p, kind), Expect: p.Sequence, ExpectKey: stored.Credential.Sealed.KeyID, Put: &p,
	})
	if err != nil {
		t.Fatalf("Apply %s of %s: %v", kind, p.ID, err)
	}
	p.Sequence = sequence
	return p
}

func remove(s emailprovider.Store, p emailprovider.Provider) (uint64, error) {
	return s.Apply(context.Background(), emailprovider.Change{
		Event: event(p, emailprovider.EventRemoved), Expect: p.Sequence,
	})
}

// wantProvider fails unless the store has exactly want.
func wantProvider(t *testing.T, s emailprovider.Store, want emailprovider.Provider) {
	t.Helper()
	got, err := s.Provider(t.Context(), want.Instance, want.ID)
	if err != nil {
		t.Fatalf("Provider %s: %v", want.ID, err)
	}
	wantEqual(t, "Provider "+want.ID, got, want)
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// events returns all events of an instance.
func events(t *testing.T, s emailprovider.Store, instance string) []emailprovider.Event {
	t.Helper()
	all, err := s.Events(t.Context(), instance, "", 0, 1000)
	if err != nil {
		t.Fatalf("Events: %v", err)
	}
	return all
}

// wantDense fails unless the instance has n events, numbered from 1 without gaps, and says so in
// lists too.
func wantDense(t *testing.T, s emailprovider.Store, instance string, n int) {
	t.Helper()
	all := events(t, s, instance)
	if len(all) != n {
		t.Errorf("%d events, want %d", len(all), n)
	}
	for i, e := range all {
		if e.Sequence != uint64(i+1) {
			t.Fatalf("event %d has sequence %d", i+1, e.Sequence)
		}
	}
	page, err := s.List(t.Context(), instance, emailprovider.Query{Limit: 1})
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	wantEqual(t, "sequence of the list", page.Sequence, uint64(n))
}
