package sqlstore

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// TestSequencesOfBatch has a change that fails late share a transaction with others: sequences go on without a gap.
func TestSequencesOfBatch(t *testing.T) { synctest.Test(t, testSequencesOfBatch) }

func testSequencesOfBatch(t *testing.T) {
	db := open(t)
	p, q, gone := addProvider(t, db, 1), addProvider(t, db, 2), addProvider(t, db, 3)
	removal := updated(gone)
	removal.Put, removal.Event.Type = nil, emailprovider.EventRemoved
	if _, err := db.Apply(t.Context(), removal); err != nil {
		t.Fatal(err)
	}
	sequences := make([]uint64, 3)
	apply := func(i int, c emailprovider.Change) func() error {
		return func() (err error) { sequences[i], err = db.Apply(t.Context(), c); return err }
	}
	errs := batch(t, db, nil, apply(0, updated(p)), apply(1, added(gone)), apply(2, updated(q)))
	if errs[0] != nil || !errors.Is(errs[1], emailprovider.ErrIDTaken) || errs[2] != nil || !slices.Equal(sequences, []uint64{5, 0, 6}) {
		t.Errorf("%v, sequences %v", errs, sequences)
	}
	wantEvents(t, db, 6)
	page, err := db.List(t.Context(), "default", emailprovider.Query{Limit: 1})
	if err != nil || page.Sequence != 6 {
		t.Errorf("the instance is at %d, %v", page.Sequence, err)
	}
}

// TestNarrowUpdate has only a change of nothing but the credential leave the settings alone.
func TestNarrowUpdate(t *testing.T) {
	before, err := newProviderRow(new(provider(1)))
	if err != nil {
		t.Fatal(err)
	}
	p := provider(1)
	p.Credential.Version++
	before.sequence = 1
	key := providerKey{instance: p.Instance, id: p.ID}
	query := func(c emailprovider.Change, known bool) string {
		var seen recents
		if known {
			seen.put(0, key, before)
		}
		row, err := newProviderRow(c.Put)
		if err != nil {
			t.Fatal(err)
		}
		made := change{Change: c, row: row}
		seen.compare(0, &made)
		return newSQLiteChange(made).query
	}
	c := updated(p)
	c.Expect = 1
	if got := query(c, true); got != updateCredential {
		t.Errorf("a new password: %s", got)
	}
	if got := query(c, false); got != updateProvider {
		t.Errorf("not known before: %s", got)
	}
	c.Put.Previous = emailprovider.Previous{Credential: provider(1).Credential, User: p.SMTP.User}
	if got := query(c, true); got != replaceCredential {
		t.Errorf("the present password becomes the previous one: %s", got)
	}
	for _, other := range []emailprovider.Previous{
		{User: "other", Credential: c.Put.Previous.Credential},
		{User: p.SMTP.User, Credential: p.Credential},
	} {
		was := c.Put.Previous
		if c.Put.Previous = other; query(c, true) != updateCredential {
			t.Errorf("another becomes the previous one: %+v", other)
		}
		c.Put.Previous = was
	}
	c.ExpectKey++
	if got := query(c, true); got != updateProvider {
		t.Errorf("another key: %s", got)
	}
	c.ExpectKey--
	if c.Expect++; query(c, true) != updateProvider {
		t.Error("decided on another state than was seen")
	}
	settings := before.settings()
	credential := []string{"id", "kind", "credentialVersion", "keyID", "ciphertext", "setAt", "setBy", "created", "changed", "sequence", "previous"}
	row := reflect.TypeFor[providerRow]()
	if row.NumField() != len(settings)+len(credential) {
		t.Errorf("%d columns are neither a setting nor of the credential", row.NumField()-len(settings)-len(credential))
	}
	for field := range row.Fields() {
		other := before
		alter(&other, field.Name)
		if same := other.sameSettings(&before); same != slices.Contains(credential, field.Name) {
			t.Errorf("%s is another: the same settings: %v", field.Name, same)
		}
	}
}

// alter makes a column another than it was.
func alter(r *providerRow, column string) {
	texts := map[string]*string{
		"description": &r.description, "senderAddress": &r.senderAddress, "senderName": &r.senderName, "replyTo": &r.replyTo,
		"host": &r.host, "user": &r.user, "auth": &r.auth, "tokenEndpoint": &r.tokenEndpoint, "clientID": &r.clientID,
		"scopes": &r.scopes, "endpoint": &r.endpoint, "ca": &r.ca,
	}
	flags := map[string]*bool{"active": &r.active, "tls": &r.tls}
	if text, ok := texts[column]; ok {
		*text += "x"
	}
	if flag, ok := flags[column]; ok {
		*flag = !*flag
	}
}

func TestPositional(t *testing.T) {
	for query, want := range map[string]string{
		`UPDATE t SET a = $2, b = $10 WHERE c = $1 AND a <> $2`: `UPDATE t SET a = ?, b = ? WHERE c = ? AND a <> ?`,
		`BEGIN`: `BEGIN`,
	} {
		text, _, err := positional(query)
		if text != want || err != nil {
			t.Errorf("%s: %s, %v", query, text, err)
		}
	}
	if _, order, _ := positional(`$2 $10 $1 $2`); !slices.Equal(order, []int{1, 9, 0, 1}) {
		t.Errorf("order %v", order)
	}
	if _, _, err := positional(`$0`); err == nil {
		t.Error("$0 is no parameter")
	}
}
