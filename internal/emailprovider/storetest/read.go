package storetest

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

func testGet(t *testing.T, open Opener) {
	s := open(t, one)
	full := put(t, s, smtp(one, 1))
	webhook := put(t, s, http(one, 2))
	bare := smtp(one, 3)
	bare.SMTP = &emailprovider.SMTP{Host: "h:25"}
	bare.Credential = emailprovider.Credential{}
	bare = put(t, s, bare)
	plain := smtp(one, 4)
	plain.State = emailprovider.Active
	plain.SMTP.Auth, plain.SMTP.XOAuth2 = emailprovider.AuthPlain, emailprovider.XOAuth2{}
	plain = put(t, s, plain)
	for _, p := range []emailprovider.Provider{full, webhook, bare, plain} {
		wantProvider(t, s, p)
	}
	bare.Description, bare.SMTP.Host, bare.SMTP.TLS = "more", "other:465", true
	bare.Credential = smtp(one, 5).Credential
	wantProvider(t, s, put(t, s, bare))
	full.SMTP, full.Credential = &emailprovider.SMTP{Host: "h:25"}, emailprovider.Credential{Version: 3}
	wantProvider(t, s, put(t, s, full))
	for _, unknown := range []string{id(9), "", "' OR 1=1 --"} {
		if _, err := s.Provider(t.Context(), one, unknown); !errors.Is(err, emailprovider.ErrNotFound) {
			t.Errorf("Provider %q: %v, want ErrNotFound", unknown, err)
		}
	}
}

func testActive(t *testing.T, open Opener) {
	s := open(t, one)
	wantActive(t, s, one, "")
	p := put(t, s, smtp(one, 1))
	wantActive(t, s, one, "")
	p.State = emailprovider.Active
	p = put(t, s, p)
	got, err := s.Active(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "Active", got, p)
	if _, err := remove(s, p); err != nil {
		t.Fatal(err)
	}
	wantActive(t, s, one, "")
}

// wantActive fails unless the active provider is the one with the id; empty for none.
func wantActive(t *testing.T, s emailprovider.Store, instance, want string) {
	t.Helper()
	p, err := s.Active(t.Context(), instance)
	if err != nil && !errors.Is(err, emailprovider.ErrNotFound) {
		t.Fatalf("Active: %v", err)
	}
	if p.ID != want || (err != nil) != (want == "") {
		t.Errorf("active is %q (%v), want %q", p.ID, err, want)
	}
}

// testRecent: what a store remembers is what it has seen, or what was applied since; whoever changes what it
// was given, or what is not so any more, changes nothing.
func testRecent(t *testing.T, open Opener) {
	s := open(t, one, two)
	if p, ok := s.Recent(one, id(1)); ok {
		t.Errorf("a provider that never was is remembered: %+v", p)
	}
	p := put(t, s, smtp(one, 1))
	for range 2 {
		got, err := s.Provider(t.Context(), one, p.ID)
		if err != nil {
			t.Fatal(err)
		}
		got.Credential.Sealed.Ciphertext[0]++
		recent, ok := s.Recent(one, p.ID)
		if !ok {
			break // it need not remember
		}
		if diff := cmp.Diff(p, recent); diff != "" {
			t.Errorf("remembered (-want +got):\n%s", diff)
		}
		recent.Credential.Sealed.Ciphertext[0]++
		p = put(t, s, p)
	}
	if recent, ok := s.Recent(two, p.ID); ok {
		t.Errorf("another instance remembers %+v", recent)
	}
	if _, err := remove(s, p); err != nil {
		t.Fatal(err)
	}
	if recent, ok := s.Recent(one, p.ID); ok {
		t.Errorf("a removed provider is remembered: %+v", recent)
	}
}

func testList(t *testing.T, open Opener) {
	s := open(t, one)
	// Added in an order that is neither that of the ids nor that of creation; 2 and 3 tie.
	created := map[int]int{4: 1, 1: 5, 3: 2, 2: 2, 5: 4}
	var all []emailprovider.Provider
	for _, n := range []int{4, 1, 3, 2, 5} {
		p := smtp(one, n)
		if n == 3 || n == 5 {
			p = http(one, n)
		}
		p.Created = moment(created[n])
		all = append(all, put(t, s, p))
	}
	for _, c := range []struct {
		name  string
		query emailprovider.Query
		want  []int
		total uint64
	}{
		{"oldest first", emailprovider.Query{Limit: 9, Ascending: true}, []int{4, 2, 3, 5, 1}, 5},
		{"newest first", emailprovider.Query{Limit: 9}, []int{1, 5, 3, 2, 4}, 5},
		{"page", emailprovider.Query{Offset: 1, Limit: 2, Ascending: true}, []int{2, 3}, 5},
		{"past the end", emailprovider.Query{Offset: 5, Limit: 2}, nil, 5},
		{"far past the end", emailprovider.Query{Offset: math.MaxUint64, Limit: math.MaxUint32}, nil, 5},
		{"SMTP", emailprovider.Query{Limit: 9, SMTPOnly: true}, []int{1, 2, 4}, 3},
		{"page of SMTP", emailprovider.Query{Offset: 1, Limit: 1, SMTPOnly: true, Ascending: true}, []int{2}, 3},
	} {
		want := emailprovider.Page{Total: c.total, Sequence: 5}
		for _, n := range c.want {
			i := slices.IndexFunc(all, func(p emailprovider.Provider) bool { return p.ID == id(n) })
			want.Providers = append(want.Providers, all[i])
		}
		got, err := s.List(t.Context(), one, c.query)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func testEvents(t *testing.T, open Opener) {
	s := open(t, one)
	first := put(t, s, smtp(one, 1))
	second := put(t, s, http(one, 2))
	first.Description = "changed"
	first = put(t, s, first)
	if _, err := remove(s, second); err != nil {
		t.Fatal(err)
	}
	want := []emailprovider.Event{
		event(smtp(one, 1), emailprovider.EventAdded), event(http(one, 2), emailprovider.EventAdded),
		event(first, emailprovider.EventUpdated), event(second, emailprovider.EventRemoved),
	}
	for i := range want {
		want[i].Sequence = uint64(i + 1)
	}
	for _, c := range []struct {
		name     string
		provider string
		after    uint64
		limit    int
		want     []emailprovider.Event
	}{
		{"all", "", 0, 9, want},
		{"after 1", "", 1, 9, want[1:]},
		{"at most 2", "", 1, 2, want[1:3]},
		{"of one", id(1), 0, 9, []emailprovider.Event{want[0], want[2]}},
		{"of a removed one", id(2), 0, 9, []emailprovider.Event{want[1], want[3]}},
		{"of one, after 1", id(1), 1, 9, want[2:3]},
		{"of one, at most 1", id(1), 0, 1, want[:1]},
		{"of an unknown one", id(3), 0, 9, nil},
		{"after the last", "", 4, 9, nil},
		{"after any", "", math.MaxUint64, 9, nil},
	} {
		got, err := s.Events(t.Context(), one, c.provider, c.after, c.limit)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	plain := emailprovider.Event{Instance: one, Sequence: 5, Type: emailprovider.EventUpdated, ProviderID: id(1)}
	if _, err := s.Apply(t.Context(), emailprovider.Change{Event: plain, Expect: first.Sequence, ExpectKey: first.Credential.Sealed.KeyID, Put: &first}); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "an event without anything", events(t, s, one)[4], plain)
}

func testInstances(t *testing.T, open Opener) {
	s := open(t, one, two)
	mine, theirs := smtp(one, 1), smtp(two, 2)
	mine.State, theirs.State = emailprovider.Active, emailprovider.Active
	mine, theirs = put(t, s, mine), put(t, s, theirs)
	wantEqual(t, "first sequence of the other instance", theirs.Sequence, uint64(1))
	wantActive(t, s, one, mine.ID)
	wantActive(t, s, two, theirs.ID)
	if _, err := s.Provider(t.Context(), two, mine.ID); !errors.Is(err, emailprovider.ErrNotFound) {
		t.Errorf("Provider of another instance: %v, want ErrNotFound", err)
	}
	stolen := mine
	stolen.Instance, stolen.Description = two, "stolen"
	change := emailprovider.Change{Event: event(stolen, emailprovider.EventUpdated), Expect: mine.Sequence, ExpectKey: mine.Credential.Sealed.KeyID, Put: &stolen}
	if _, err := s.Apply(t.Context(), change); !errors.Is(err, emailprovider.ErrConflict) {
		t.Errorf("update of another instance's provider: %v, want ErrConflict", err)
	}
	if _, err := remove(s, stolen); !errors.Is(err, emailprovider.ErrConflict) {
		t.Errorf("removal of another instance's provider: %v, want ErrConflict", err)
	}
	wantProvider(t, s, mine)
	page, err := s.List(t.Context(), two, emailprovider.Query{Limit: 9})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "List", page, emailprovider.Page{Providers: []emailprovider.Provider{theirs}, Total: 1, Sequence: 1})
	for _, e := range events(t, s, two) {
		wantEqual(t, "instance of an event", e.Instance, two)
	}
	wantDense(t, s, two, 1)
}

func testEndedContext(t *testing.T, open Opener) {
	s := open(t, one)
	p := put(t, s, smtp(one, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Provider": func() error { _, err := s.Provider(ctx, one, p.ID); return err },
		"Active":   func() error { _, err := s.Active(ctx, one); return err },
		"List":     func() error { _, err := s.List(ctx, one, emailprovider.Query{Limit: 1}); return err },
		"Events":   func() error { _, err := s.Events(ctx, one, "", 0, 1); return err },
		"Apply": func() error {
			_, err := s.Apply(ctx, emailprovider.Change{Event: event(p, emailprovider.EventUpdated), Expect: 1, Put: &p})
			return err
		},
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v, want context.Canceled", name, err)
		}
	}
	wantDense(t, s, one, 1)
}
