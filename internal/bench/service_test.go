package main

import (
	"context"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// forgetful says, once it is told to, that it has made changes that it has not.
type forgetful struct {
	app.Store
	forgets bool
}

func (f *forgetful) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	if f.forgets {
		return c.Expect + 1, nil
	}
	return f.Store.Apply(ctx, c)
}

// TestChangesAreReconciled has callers that count wrong, and a store that loses what it acknowledges.
func TestChangesAreReconciled(t *testing.T) {
	b, err := newBed(0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.close() }()
	store := &forgetful{}
	err = b.play(t.Context(), stage{
		on: b.sqlite, address: "127.0.0.1:25",
		wrap: func(s app.Store) app.Store { store.Store = s; return store },
		while: func(ctx context.Context, s *service) error {
			const calls = emailprovider.MaxLimit + 3 // more than a page
			for _, test := range []struct {
				forgets bool
				counts  int
				want    string
			}{
				{false, calls, ""},
				{false, calls + 1, "1004 changes were acknowledged, and 1003 are recorded"},
				{true, calls, "1003 changes were acknowledged, and 0 are recorded"},
			} {
				store.forgets = test.forgets
				_, err := s.reconciled(ctx, func(ctx context.Context) (sample, int, error) {
					for range calls {
						if _, err := s.Providers.SetPassword(ctx, who, s.all[0].provider, secret.New(password)); err != nil {
							return sample{}, 0, err
						}
					}
					return sample{}, test.counts, nil
				})
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("%+v: %v", test, err)
				}
			}
			return nil
		},
	})
	if err != nil {
		t.Error(err)
	}
}
