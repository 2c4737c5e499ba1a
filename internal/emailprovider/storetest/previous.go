package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

func testDestroyPrevious(t *testing.T, open Opener) {
	s := open(t, one, two)
	until := func(p emailprovider.Provider, at time.Time) emailprovider.Provider {
		p.Previous.Until = at
		return put(t, s, p)
	}
	up := smtp(one, 1)
	up.State = emailprovider.Active
	up = until(up, moment(10))
	late := until(smtp(two, 2), moment(10).Add(time.Microsecond))
	none := put(t, s, http(two, 3))
	changes := 2 // of the second instance
	destroy := func(at time.Time, want int) {
		t.Helper()
		got, err := s.DestroyPrevious(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "destroyed", got, want)
		for _, p := range []emailprovider.Provider{up, late, none} {
			wantProvider(t, s, p)
		}
		wantDense(t, s, one, 1)
		wantDense(t, s, two, changes)
	}
	destroy(moment(10).Add(-time.Microsecond), 0)
	decided := emailprovider.Change{
		Event: event(up, emailprovider.EventUpdated), Expect: up.Sequence, ExpectKey: up.Credential.Sealed.KeyID, Put: new(up),
	}
	up.Previous = emailprovider.Previous{}
	destroy(moment(10), 1)
	destroy(moment(10), 0)
	active, err := s.Active(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "Active", active, up)
	if _, err := s.Apply(t.Context(), decided); !errors.Is(err, emailprovider.ErrConflict) {
		t.Errorf("a change that would bring it back: %v, want ErrConflict", err)
	}
	wantDense(t, s, one, 1)

	// Its replacement's time counts, be it later or earlier.
	rotate := func(minute int) {
		t.Helper()
		late.Previous = emailprovider.Previous{Credential: late.Credential, User: late.SMTP.User, Until: moment(minute)}
		late.Credential.Version++
		late = put(t, s, late)
		changes++
	}
	rotate(20)
	rotate(40)
	destroy(moment(20), 0)
	destroy(moment(39), 0)
	late.Previous = emailprovider.Previous{}
	destroy(moment(40), 1)
	rotate(60)
	rotate(45)
	destroy(moment(44), 0)
	late.Previous = emailprovider.Previous{}
	destroy(moment(45), 1)
	wantRotated(t, s, up)
	wantRotated(t, s, late)
}

// wantRotated makes the present credential the previous one, with another key and with the same, leaves that as it
// is, and then has none.
func wantRotated(t *testing.T, s emailprovider.Store, p emailprovider.Provider) {
	t.Helper()
	for n, kept := range []bool{false, false, true, false} {
		if !kept {
			p.Previous = emailprovider.Previous{Credential: p.Credential, User: p.SMTP.User, Until: moment(20 + n)}
		}
		p.Changed = moment(10 + n)
		p.Credential = emailprovider.Credential{
			Version: p.Credential.Version + 1,
			Sealed:  emailprovider.Sealed{KeyID: 7, Ciphertext: fmt.Appendf(nil, "rotated %d", n)},
			SetAt:   moment(30 + n),
			SetBy:   fmt.Sprint("rotator ", n),
		}
		p = put(t, s, p)
		wantProvider(t, s, p)
	}
	p.Description = "with the same previous one"
	p = put(t, s, p)
	wantProvider(t, s, p)
	p.Previous = emailprovider.Previous{}
	wantProvider(t, s, put(t, s, p))
}
