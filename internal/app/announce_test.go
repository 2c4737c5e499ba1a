package app

import (
	"context"
	"errors"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// answered is a store that answers Apply with an error, or none.
type answered struct {
	emailprovider.Store
	err error
}

func (a answered) Apply(context.Context, emailprovider.Change) (uint64, error) { return 1, a.err }

// TestAnnouncing: mails hear of what becomes of the active provider, and of nothing else.
func TestAnnouncing(t *testing.T) {
	active, inactive := &emailprovider.Provider{State: emailprovider.Active}, &emailprovider.Provider{}
	for name, c := range map[string]struct {
		event emailprovider.EventType
		put   *emailprovider.Provider
		err   error
		want  bool
	}{
		"added":                   {emailprovider.EventAdded, inactive, nil, false},
		"activated":               {emailprovider.EventActivated, active, nil, true},
		"deactivated":             {emailprovider.EventDeactivated, inactive, nil, true},
		"removed":                 {emailprovider.EventRemoved, nil, nil, true},
		"password, active":        {emailprovider.EventPasswordChanged, active, nil, true},
		"password, inactive":      {emailprovider.EventPasswordChanged, inactive, nil, false},
		"settings, active":        {emailprovider.EventUpdated, active, nil, true},
		"settings, inactive":      {emailprovider.EventUpdated, inactive, nil, false},
		"not activated after all": {emailprovider.EventActivated, active, errors.New("no"), false},
	} {
		heard := false
		s := announcing{answered{err: c.err}, func(string, uint64) { heard = true }}
		_, err := s.Apply(t.Context(), emailprovider.Change{Event: emailprovider.Event{Type: c.event}, Put: c.put})
		if heard != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: heard of: %v, want %v; %v", name, heard, c.want, err)
		}
	}
}
