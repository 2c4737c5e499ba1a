package instance_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// noKeys makes keys that are none.
type noKeys struct{ forgotten []string }

func (k *noKeys) NewKey(id string) (instance.Key, error) {
	return instance.Key{Instance: id, ID: 1, Wrapped: emailprovider.Sealed{Ciphertext: []byte{1}}}, nil
}
func (k *noKeys) Forget(id string) { k.forgotten = append(k.forgotten, id) }

// world is a service on a real store.
type world struct {
	*instance.Service
	t    *testing.T
	db   *sqlstore.DB
	keys *noKeys
	gone []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return onStore(t, db)
}

// onStore is another process on a store.
func onStore(t *testing.T, db *sqlstore.DB) *world {
	t.Helper()
	w := &world{t: t, db: db, keys: &noKeys{}}
	var err error
	w.Service, err = instance.NewService(t.Context(), instance.Config{
		Store: db, Keys: w.keys, SenderDomains: []string{"flag.example"}, Gone: func(id string) { w.gone = append(w.gone, id) },
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) add(id string, domains ...string) {
	w.t.Helper()
	if _, _, err := w.Add(w.t.Context(), instance.Instance{ID: id, Domains: domains}); err != nil {
		w.t.Fatal(err)
	}
}

// at is the instance of a host, or the id of the refusal.
func (w *world) at(host string) string {
	id, err := w.ByHost(w.t.Context(), host)
	var refused *fault.Error
	if errors.As(err, &refused) {
		return refused.ID
	}
	return id
}

func TestByHost(t *testing.T) {
	w := newWorld(t)
	for _, host := range []string{"anything.example", "", "localhost:8080", "10.0.0.1"} {
		if got := w.at(host); got != instance.Default {
			t.Errorf("alone, at %q: %s", host, got)
		}
	}
	w.add("acme", "Mail.Acme.example.", "10.0.0.7")
	w.add("none")
	for host, want := range map[string]string{
		"mail.acme.example": "acme", "MAIL.ACME.EXAMPLE.:8443": "acme", "10.0.0.7:80": "acme",
		"localhost": instance.Default, "127.0.0.1:8080": instance.Default, "[::1]:8080": instance.Default,
		"acme.example": "MAILKEEP-HOST", "x.mail.acme.example": "MAILKEEP-HOST", "own.example": "MAILKEEP-HOST", "": "MAILKEEP-HOST", "10.0.0.1": "MAILKEEP-HOST",
	} {
		if got := w.at(host); got != want {
			t.Errorf("at %q: %s, want %s", host, got, want)
		}
	}
	if _, err := w.Update(t.Context(), instance.Default, func(in *instance.Instance) { in.Domains = []string{"own.example"} }); err != nil {
		t.Fatal(err)
	}
	if got := w.at("own.example"); got != instance.Default {
		t.Errorf("at default's own domain: %s", got)
	}
	for _, host := range []string{"mail.acme.example:8443", "mail.acme.example"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = w.ByHost(context.Background(), host) }); n > 0 {
			t.Errorf("choosing the instance of %s allocates %v times", host, n)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.add("acme", "acme.example")
	if err := w.Remove(t.Context(), "acme", "me"); err != nil {
		t.Fatal(err)
	}
	w.add("taken", "taken.example")
	long := strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		in   instance.Instance
		kind fault.Kind
		id   string
	}{
		"an id in use":        {instance.Instance{ID: "taken"}, fault.AlreadyExists, "MAILKEEP-INSTANCE"},
		"an id once in use":   {instance.Instance{ID: "acme"}, fault.AlreadyExists, "MAILKEEP-INSTANCE"},
		"default":             {instance.Instance{ID: "default"}, fault.AlreadyExists, "MAILKEEP-INSTANCE"},
		"no id":               {instance.Instance{}, fault.InvalidArgument, "MAILKEEP-INSTANCE"},
		"a long id":           {instance.Instance{ID: long}, fault.InvalidArgument, "MAILKEEP-INSTANCE"},
		"capitals":            {instance.Instance{ID: "Acme"}, fault.InvalidArgument, "MAILKEEP-INSTANCE"},
		"a digit first":       {instance.Instance{ID: "1a"}, fault.InvalidArgument, "MAILKEEP-INSTANCE"},
		"a control character": {instance.Instance{ID: "x", Name: "a\nb"}, fault.InvalidArgument, "MAILKEEP-INSTANCE"},
		"another's domain":    {instance.Instance{ID: "x", Domains: []string{"Taken.example."}}, fault.AlreadyExists, "MAILKEEP-DOMAIN"},
		"a port":              {instance.Instance{ID: "x", Domains: []string{"x.example:80"}}, fault.InvalidArgument, "MAILKEEP-INSTANCE"},
		"loopback":            {instance.Instance{ID: "x", Domains: []string{"127.0.0.1"}}, fault.InvalidArgument, "MAILKEEP-INSTANCE"},
		"a bad sender domain": {instance.Instance{ID: "x", Policy: instance.Policy{SenderDomains: []string{"@"}}}, fault.InvalidArgument, "MAILKEEP-INSTANCE"},
	} {
		_, _, err := w.Add(t.Context(), c.in)
		wantFault(t, name, err, c.kind, c.id)
	}
	wantFault(t, "removing default", w.Remove(t.Context(), instance.Default, "me"), fault.FailedPrecondition, "MAILKEEP-INSTANCE")
	wantFault(t, "removing nothing", w.Remove(t.Context(), "nothing", "me"), fault.NotFound, "MAILKEEP-INSTANCE")
	_, err := w.Update(t.Context(), "nothing", func(*instance.Instance) {})
	wantFault(t, "changing nothing", err, fault.NotFound, "MAILKEEP-INSTANCE")
	_, err = w.Update(t.Context(), instance.Default, func(in *instance.Instance) { in.Policy.SenderDomains = []string{"x.example"} })
	wantFault(t, "default's sender domains", err, fault.FailedPrecondition, "MAILKEEP-INSTANCE")
	if all, err := w.List(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("there are %v, %v", all, err)
	}
}

func wantFault(t *testing.T, what string, err error, kind fault.Kind, id string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != kind || f.ID != id {
		t.Errorf("%s: %v, want %v with %s", what, err, kind, id)
	}
}

// TestOthersChanges: what one process does counts in another with its next look, and not before.
func TestOthersChanges(t *testing.T) {
	here := newWorld(t)
	there := onStore(t, here.db)
	here.add("acme", "acme.example")
	if got := there.at("acme.example"); got != instance.Default {
		t.Errorf("red control: before the look it is %s", got)
	}
	look := func() {
		t.Helper()
		if err := there.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look()
	if got := there.at("acme.example"); got != "acme" {
		t.Errorf("after the look it is %s", got)
	}
	_, err := here.Update(t.Context(), "acme", func(in *instance.Instance) {
		in.Policy.SenderDomains, in.Policy.Tokens = []string{"s.example"}, 7
	})
	if err != nil {
		t.Fatal(err)
	}
	look()
	policy, err := there.Policy(t.Context(), "acme")
	limits, err2 := there.Limits("acme")
	if !slices.Equal(policy.SenderDomains, []string{"s.example"}) || limits.Tokens != 7 || errors.Join(err, err2) != nil {
		t.Errorf("the policy is %v, %v", policy, limits)
	}
	if own, err := there.Policy(t.Context(), instance.Default); err != nil || !slices.Equal(own.SenderDomains, []string{"flag.example"}) {
		t.Errorf("default's policy is %v, %v", own, err)
	}

	bound, stop := there.While(t.Context(), "acme")
	defer stop()
	other, stopOther := there.While(t.Context(), instance.Default)
	defer stopOther()
	if err := here.Remove(t.Context(), "acme", "me"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(here.gone, []string{"acme"}) || bound.Err() != nil {
		t.Errorf("gone here: %v; bound there ends with %v", here.gone, bound.Err())
	}
	look()
	<-bound.Done()
	wantFault(t, "what was bound", context.Cause(bound), fault.NotFound, "MAILKEEP-HOST")
	if other.Err() != nil || !slices.Equal(there.gone, []string{"acme"}) || !slices.Contains(there.keys.forgotten, "acme") {
		t.Errorf("default's: %v; gone there: %v; keys forgotten: %v", other.Err(), there.gone, there.keys.forgotten)
	}
	late, stopLate := there.While(t.Context(), "acme")
	defer stopLate()
	wantFault(t, "what is bound later", context.Cause(late), fault.NotFound, "MAILKEEP-HOST")
	_, err = there.Policy(t.Context(), "acme")
	wantFault(t, "its policy", err, fault.NotFound, "MAILKEEP-INSTANCE")
}

// TestOwner: the token of a new instance is one of the store's, once, with what an owner may do.
func TestOwner(t *testing.T) {
	w := newWorld(t)
	in, token, err := w.Add(t.Context(), instance.Instance{ID: "acme"})
	if err != nil || in.Name != "acme" || in.Created.IsZero() {
		t.Fatalf("%+v, %v", in, err)
	}
	tokens := auth.NewService(w.db, nil, time.Now)
	caller, err := tokens.Authenticate(t.Context(), "acme", []string{"Bearer " + token.Reveal()})
	if err != nil || !caller.May(auth.WriteTokens) || caller.May(auth.WriteSystem) {
		t.Errorf("the owner is %+v, %v", caller, err)
	}
	if _, err := tokens.Authenticate(t.Context(), instance.Default, []string{"Bearer " + token.Reveal()}); err == nil {
		t.Error("the token works for another instance")
	}
}
