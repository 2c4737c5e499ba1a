package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/deprecation"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// moving is a store in a file with something in every table, and an empty one to copy it to.
type moving struct {
	from, to  *DB
	path, url string
}

func newMoving(t *testing.T) *moving {
	m := &moving{path: filepath.Join(t.TempDir(), "db"), url: pgtest.Database(t)}
	m.from, m.to = openAt(t, m.path, Options{}, "another"), openURL(t, m.url, Options{})
	active := activeProvider(t, m.from)
	for n := 10; n < 13; n++ {
		addProvider(t, m.from, n)
	}
	rotated := provider(14)
	rotated.Previous = emailprovider.Previous{Credential: rotated.Credential, User: "u", Until: start}
	if _, err := m.from.Apply(t.Context(), added(rotated)); err != nil {
		t.Fatal(err)
	}
	removal := updated(addProvider(t, m.from, 20))
	removal.Put = nil
	if _, err := m.from.Apply(t.Context(), removal); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		id := fmt.Sprint(n)
		must(t, m.from.PutToken(t.Context(), auth.Token{Instance: "default", ID: id, Name: "n" + id, Hash: [32]byte{byte(n + 1), 0xff}, Roles: []string{"IAM_OWNER"}}))
	}
	must(t, m.from.RevokeToken(t.Context(), "default", "1", anyToken))
	must(t, m.from.AddUses(t.Context(), []deprecation.Use{{Instance: "default", Method: "GetSMTPConfig", Caller: "c", UserAgent: "🦊", Calls: 3, First: start, Last: start}}))
	must(t, m.from.AddKeyCheck(t.Context(), emailprovider.Sealed{KeyID: 7, Ciphertext: []byte{0, 1, 0xff}}))
	must(t, m.from.CreateInstance(t.Context(), instance.New{
		Instance: instance.Instance{ID: "acme", Domains: []string{"acme.example"}},
		Key:      instance.Key{Instance: "acme", ID: 1 << 31, Wrapped: emailprovider.Sealed{KeyID: 7, Ciphertext: []byte{0, 0xff}}},
		Owner:    auth.Token{Instance: "acme", ID: "a", Hash: [32]byte{9}},
	}))
	must(t, m.from.RemoveInstance(t.Context(), "another", "me"))
	for range 3 {
		acceptMail(t, m.from, "sealed \x00 content")
	}
	mails := claimAll(t, m.from)
	attempt := &outbox.Attempt{Number: 1, ProviderID: active.ID, CredentialVersion: active.Credential.Version, Started: start, Ended: start, Step: "data", Text: "later"}
	_, err := m.from.Settle(t.Context(), []outbox.Settlement{
		{Lease: mails[0].Lease(), At: start, State: outbox.Delivered, Attempt: attempt, Recipients: mails[0].Recipients},
		{Lease: mails[1].Lease(), At: start, State: outbox.Queued, Due: start, Attempt: attempt, Recipients: mails[1].Recipients},
	})
	must(t, err)
	run(t, lite(m.from).writer, `INSERT INTO message_recipients (instance, address, id) VALUES ('default', 'b@example.com', '`+mails[0].ID+`')`)
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCopy: everything is there afterwards, and goes on where it was.
func TestCopy(t *testing.T) {
	m := newMoving(t)
	var tables []string
	var done, all int64
	rows, err := Copy(t.Context(), m.from, m.to, func(table string, d, a int64) {
		if d < done {
			t.Errorf("progress went back from %d to %d", done, d)
		}
		done, all, tables = d, a, append(tables, table)
	})
	must(t, err)
	if done != all || all != 2*rows || len(tables) < 2*len(copied) {
		t.Errorf("progress ended at %d of %d for %d rows", done, all, rows)
	}
	for _, table := range copied {
		var n int
		must(t, m.from.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
		if n == 0 {
			t.Errorf("the test has nothing in %s", table)
		}
	}
	sameProviders(t, m)
	if err := m.from.MayServe(t.Context()); fault.KindOf(err) != fault.FailedPrecondition || !strings.Contains(err.Error(), "--database-url") {
		t.Errorf("the source may serve: %v", err)
	}
	must(t, m.to.MayServe(t.Context()))
	if n, err := m.to.DestroyPrevious(t.Context(), start); n != 1 || err != nil {
		t.Errorf("%d previous credentials destroyed, %v", n, err)
	}
	before, err := m.from.Events(t.Context(), "default", "", 0, 100)
	must(t, err)
	if next := addProvider(t, m.to, 30); next.Sequence != uint64(len(before)+1) {
		t.Errorf("the next sequence is %d after %d events", next.Sequence, len(before))
	}
	if r := verify(t, m.to, audit.New(ownKeys), "default"); len(r.Findings) > 0 || r.Checked != len(before)+1 {
		t.Errorf("the chain: %+v", r)
	}
	if _, err := m.to.Apply(t.Context(), added(provider(20))); !errors.Is(err, emailprovider.ErrIDTaken) {
		t.Errorf("the id of a removed provider: %v, want ErrIDTaken", err)
	}
	if err := m.to.PutToken(t.Context(), auth.Token{Instance: "default", ID: "9", Hash: [32]byte{2, 0xff}}); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("a revoked token comes back: %v", err)
	}
	if claimed := claimAll(t, m.to); len(claimed) != 1 || string(claimed[0].Content.Ciphertext) != "sealed \x00 content" {
		t.Errorf("%d mails can be claimed, want the one that was put back", len(claimed))
	}
	if _, err := Copy(t.Context(), m.from, m.to, nil); err == nil {
		t.Error("a copy over changes that were made since is not noticed")
	}
}

// sameProviders compares what both ends answer.
func sameProviders(t *testing.T, m *moving) {
	t.Helper()
	type answers struct {
		Page   emailprovider.Page
		Events []emailprovider.Event
		Tokens []auth.Token
		Uses   []deprecation.Use
		Mails  []outbox.Message
		Use    []outbox.Use
		Keys   []emailprovider.Sealed
	}
	ask := func(db *DB) (a answers) {
		var errs [7]error
		a.Page, errs[0] = db.List(t.Context(), "default", emailprovider.Query{Limit: 100})
		a.Events, errs[1] = db.Events(t.Context(), "default", "", 0, 100)
		a.Tokens, errs[2] = db.Tokens(t.Context(), "default")
		a.Uses, errs[3] = db.Uses(t.Context(), "default")
		a.Mails, errs[4] = db.Messages(t.Context(), "default", outbox.Filter{Limit: 100})
		a.Use, errs[5] = db.CredentialUses(t.Context(), "default", a.Page.Providers[len(a.Page.Providers)-1].ID, 10)
		a.Keys, errs[6] = db.KeyChecks(t.Context())
		must(t, errors.Join(errs[:]...))
		return a
	}
	source, target := ask(m.from), ask(m.to)
	if len(source.Page.Providers) < 4 || len(source.Events) < 6 || len(source.Mails) != 3 || len(source.Uses) != 1 {
		t.Errorf("the source has too little: %+v", source)
	}
	if diff := cmp.Diff(source, target); diff != "" {
		t.Errorf("the copy (-source +target):\n%s", diff)
	}
}

// TestCopyGoesOn interrupts a copy again and again: it goes on where it was, and neither end serves until
// it is finished.
func TestCopyGoesOn(t *testing.T) {
	m := newMoving(t)
	run(t, lite(m.from).writer, `WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 12000)
		INSERT INTO attempts (instance, id, number, record) SELECT 'default', 'x' || n, n, '{}' FROM n`)
	interruptions := 0
	for after := int64(1); ; after++ {
		ctx, cancel := context.WithCancel(t.Context())
		steps := int64(0)
		_, err := Copy(ctx, m.from, m.to, func(string, int64, int64) {
			if steps++; steps == after {
				cancel()
			}
		})
		cancel()
		if err == nil {
			break
		}
		interruptions++
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for name, db := range map[string]*DB{"source": m.from, "target": m.to} {
			if err := db.MayServe(t.Context()); fault.KindOf(err) != fault.FailedPrecondition {
				t.Errorf("the %s may serve: %v", name, err)
			}
		}
	}
	if interruptions < 15 {
		t.Errorf("%d interruptions only", interruptions)
	}
	sameProviders(t, m)
	var n int
	must(t, m.to.reader.QueryRowContext(t.Context(), `SELECT count(*) FROM attempts`).Scan(&n))
	if n != 12001 {
		t.Errorf("%d attempts, want 12001", n)
	}
}

// TestCopyComparesAll is the red control: a row that was lost or altered on the way is noticed.
func TestCopyComparesAll(t *testing.T) {
	for _, damage := range []string{
		`DELETE FROM attempts`, `UPDATE message_contents SET ciphertext = ciphertext || '\x00'`, `UPDATE providers SET active = NOT active WHERE active`,
		`UPDATE events SET at = at + 1 WHERE sequence = 1`,
	} {
		t.Run(damage, func(t *testing.T) {
			m := newMoving(t)
			ctx, cancel := context.WithCancel(t.Context())
			steps := 0
			_, err := Copy(ctx, m.from, m.to, func(string, int64, int64) {
				if steps++; steps == 2*len(copied)-1 { // all tables are copied
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%v after %d steps", err, steps)
			}
			sqlIn(t, m.to, damage)
			if _, err := Copy(t.Context(), m.from, m.to, nil); err == nil || !strings.Contains(err.Error(), "differ") {
				t.Errorf("Copy: %v, want an error that says they differ", err)
			}
		})
	}
}

func TestCopyRefusals(t *testing.T) {
	m := newMoving(t)
	addProvider(t, m.to, 1)
	if _, err := Copy(t.Context(), m.from, m.to, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("to a database with something in it: %v", err)
	}
	must(t, m.from.MayServe(t.Context()))
	empty := openPostgres(t)
	if _, err := Copy(t.Context(), m.from, empty, nil); err != nil {
		t.Fatal(err)
	}
	if was, err := m.from.AbandonCopy(t.Context()); err != nil || !was {
		t.Errorf("AbandonCopy: %t, %v", was, err)
	}
	must(t, m.from.MayServe(t.Context()))
	if _, err := Copy(t.Context(), m.from, empty, nil); err == nil || !strings.Contains(err.Error(), "abandoned") {
		t.Errorf("to the target of an abandoned copy: %v", err)
	}
	if was, err := openAt(t, filepath.Join(t.TempDir(), "db"), Options{}).AbandonCopy(t.Context()); err != nil || was {
		t.Errorf("AbandonCopy of what was not copied: %t, %v", was, err)
	}
}
