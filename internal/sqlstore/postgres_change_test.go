package sqlstore

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// transaction is changes that share a transaction.
type transaction struct {
	t       *testing.T
	db      *DB
	changes []emailprovider.Change
	want    []error
	begun   bool // the transaction holds the instances before it gets the changes
}

// add adds a change, which is to have the outcome.
func (x *transaction) add(want error, c emailprovider.Change) {
	x.changes, x.want = append(x.changes, c), append(x.want, want)
}

// run makes the changes and returns what they needed and what became of them.
func (x *transaction) run() (kinds applyChanges, jobs []*job[*changing]) {
	x.t.Helper()
	for _, c := range x.changes {
		made, err := x.db.decided(c)
		must(x.t, err)
		x.db.seen.compare(x.db.engine.epoch(), &made)
		jobs = append(jobs, &job[*changing]{ask: &changing{change: made, sent: newChangeRow(&made)}})
		kinds.add(&made)
	}
	conn, err := sharedEngine(x.db).pool.Acquire(x.t.Context())
	must(x.t, err)
	defer conn.Release()
	var begun *held
	if x.begun {
		begun, err = beginHolding(x.t.Context(), conn.Conn(), instancesOf(jobs))
		must(x.t, err)
	}
	must(x.t, sharedEngine(x.db).applyBatch(x.t.Context(), conn.Conn(), begun, jobs))
	if status := conn.Conn().PgConn().TxStatus(); status != 'I' {
		x.t.Errorf("the transaction is in the state %c", status)
	}
	return kinds, jobs
}

// check makes the changes and compares what became of them, and what is stored of those that were made.
func (x *transaction) check(want applyChanges) {
	x.t.Helper()
	kinds, jobs := x.run()
	if kinds != want {
		x.t.Errorf("they need %+v, want %+v", kinds, want)
	}
	for i, j := range jobs {
		c := x.changes[i]
		if !errors.Is(j.err, x.want[i]) || x.want[i] == nil && j.err != nil || (j.err == nil) != (j.ask.applied > 0) {
			x.t.Errorf("change %d: %v, sequence %d; want %v", i, j.err, j.ask.applied, x.want[i])
		}
		if j.err != nil || c.Put == nil {
			continue
		}
		c.Put.Sequence = j.ask.applied
		got, err := x.db.Provider(x.t.Context(), c.Put.Instance, c.Put.ID)
		if diff := cmp.Diff(got, *c.Put); err != nil || diff != "" {
			x.t.Errorf("change %d: %v, is stored as (-got +want)\n%s", i, err, diff)
		}
	}
	for _, instance := range []string{"default", "other"} {
		r := verify(x.t, x.db, audit.New(ownKeys), instance)
		if len(r.Findings) > 0 || uint64(r.Checked) != r.Sequence {
			x.t.Errorf("events of %s: %d of %d, %v", instance, r.Checked, r.Sequence, r.Findings)
		}
	}
}

// rotated is a change of the password, which keeps the one before.
func rotated(p emailprovider.Provider) emailprovider.Change {
	key := p.Credential.Sealed.KeyID
	p.Previous = emailprovider.Previous{Credential: p.Credential, User: p.SMTP.User, Until: fromMicros(1 << 60)}
	p.Credential.Version++
	p.Credential.Sealed.Ciphertext = []byte("rotated " + p.ID)
	p.Credential.SetAt, p.Credential.SetBy = fromMicros(11), "rotator"
	c := updated(p)
	c.ExpectKey = key
	return c
}

// passwords has changes of nothing but passwords, with all that can be in the way of one.
func passwords(t *testing.T) *transaction {
	t.Helper()
	x := &transaction{t: t, db: openPostgres(t, "other")}
	n := 0
	p := func(instance string) emailprovider.Provider {
		n++
		q := provider(n)
		q.Instance = instance
		changeProvider(t, x.db, &q, added(q))
		return q
	}
	apply := func(c emailprovider.Change) emailprovider.Provider {
		sequence, err := x.db.Apply(t.Context(), c)
		must(t, err)
		if c.Put == nil {
			return emailprovider.Provider{}
		}
		c.Put.Sequence = sequence
		return *c.Put
	}
	x.add(nil, rotated(p("default")))
	x.add(nil, updated(p("default"))) // has none before
	x.add(nil, rotated(apply(rotated(p("other")))))

	stale := p("default")
	apply(rotated(stale))
	x.add(emailprovider.ErrConflict, rotated(stale))

	removed := p("default")
	apply(emailprovider.Change{Event: emailprovider.Event{
		Instance: "default", ProviderID: removed.ID, Type: emailprovider.EventRemoved,
	}, Expect: removed.Sequence})
	x.add(emailprovider.ErrConflict, rotated(removed))

	resealed := rotated(p("other"))
	execute(t, x.db, `UPDATE providers SET key_id = 8 WHERE id = $1`, resealed.Put.ID)
	x.add(emailprovider.ErrConflict, resealed)

	kept := rotated(p("default"))
	kept.Put.Previous.Until = time.UnixMicro(5)
	destroyed := updated(apply(kept))
	destroyed.Put.Credential.Version++
	if n, err := x.db.DestroyPrevious(t.Context(), time.UnixMicro(5)); n != 1 || err != nil {
		t.Fatalf("%d destroyed, %v", n, err)
	}
	x.add(emailprovider.ErrConflict, destroyed)
	x.add(nil, rotated(p("other")))
	// Known here as it was when the change was decided, whatever has become of it.
	for _, c := range x.changes {
		was := *c.Put
		if v := was.Previous; v.Stored() {
			was.Credential = v.Credential
		}
		row, err := newProviderRow(&was)
		must(t, err)
		row.sequence = c.Expect
		x.db.seen.put(x.db.engine.epoch(), providerKey{instance: c.Event.Instance, id: c.Event.ProviderID}, row)
	}
	return x
}

// rotations leaves those that keep the password before.
func rotations(x *transaction) *transaction {
	all := transaction{t: x.t, db: x.db}
	for i, c := range x.changes {
		if v := c.Put.Previous; v.Stored() && v.Version == c.Put.Credential.Version-1 {
			all.add(x.want[i], c)
		}
	}
	return &all
}

// TestPasswordsTogether has passwords change in one transaction, of which some must not.
func TestPasswordsTogether(t *testing.T) {
	onlyPasswords := applyChanges{updates: true, previous: true}
	for _, begun := range []bool{false, true} {
		x := passwords(t)
		x.begun = begun
		x.check(onlyPasswords)
	}
	rotations(passwords(t)).check(applyChanges{updates: true})

	text := *onlyPasswords.text()
	t.Cleanup(func() { applyTexts.Store(onlyPasswords, &text) })
	applyTexts.Store(onlyPasswords, newApplyText(strings.Replace(onlyPasswords.compose(), asExpected, "p.id > ''", 1)))
	x := passwords(t)
	_, jobs := x.run()
	for i, j := range jobs {
		if there := x.changes[i].Put.ID != "000000000000000005"; (j.err == nil) != there {
			t.Errorf("change %d without its conditions: %v; the test would not notice that one is missing", i, j.err)
		}
	}
}

// TestAllKindsTogether has changes of every kind in one transaction with those of passwords.
func TestAllKindsTogether(t *testing.T) {
	for _, begun := range []bool{false, true} {
		testAllKinds(t, begun)
	}
}

func testAllKinds(t *testing.T, begun bool) {
	t.Helper()
	x := passwords(t)
	x.begun = begun
	gone := provider(5) // whose id was given once
	x.changes, x.want = slices.Delete(x.changes, 4, 5), slices.Delete(x.want, 4, 5)
	x.add(emailprovider.ErrIDTaken, added(gone))
	for i, c := range []struct {
		instance string
		want     error
	}{{"default", nil}, {"other", nil}} {
		p := provider(20 + i)
		p.Instance = c.instance
		x.add(c.want, added(p))
	}
	settings, key, bare, removal := addProvider(t, x.db, 30), addProvider(t, x.db, 31), addProvider(t, x.db, 32), addProvider(t, x.db, 33)
	settings.Description, settings.SMTP.Host = "another", "smtp.example.net:25"
	x.add(nil, updated(settings))
	resealed := rotated(key)
	resealed.Put.Credential.Sealed.KeyID = 9
	x.add(nil, resealed)
	c := updated(bare)
	c.Put.Credential.Sealed = emailprovider.Sealed{}
	x.add(nil, c)
	removed := updated(removal)
	removed.Put, removed.Event.Type = nil, emailprovider.EventRemoved
	x.add(nil, removed)
	x.check(applyChanges{additions: true, removals: true, updates: true, settings: true, previous: true})
	if _, err := x.db.Provider(t.Context(), "default", removal.ID); !errors.Is(err, emailprovider.ErrNotFound) {
		t.Errorf("what was removed: %v", err)
	}
}

// TestNoInstance has an instance that there is not share a transaction with one that there is.
func TestNoInstance(t *testing.T) {
	x := &transaction{t: t, db: openPostgres(t)}
	nowhere := addProvider(t, x.db, 1)
	nowhere.Instance = "nowhere"
	x.add(nil, rotated(addProvider(t, x.db, 2)))
	x.add(nil, added(nowhere))
	x.add(nil, updated(nowhere))
	x.begun = true
	_, jobs := x.run()
	if jobs[0].err != nil {
		t.Errorf("an instance that there is: %v", jobs[0].err)
	}
	for _, j := range jobs[1:] {
		if j.err == nil || !strings.Contains(j.err.Error(), `no instance "nowhere"`) {
			t.Errorf("an instance that there is not: %v", j.err)
		}
	}
}

// TestEveryColumnIsWritten: a column that is added to the table and forgotten in changes fails here.
func TestEveryColumnIsWritten(t *testing.T) {
	db := openPostgres(t)
	rows, err := db.reader.QueryContext(t.Context(), `SELECT column_name::text FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = 'providers' AND is_generated = 'NEVER'`)
	all, err := collect(rows, err, func() (name string, err error) { return name, rows.Scan(&name) })
	must(t, err)
	set, _ := applyChanges{updates: true, settings: true, previous: true}.written()
	written := append(strings.Split(set, ", "), "sequence", "instance", "id", "kind", "created")
	slices.Sort(all)
	slices.Sort(written)
	if diff := cmp.Diff(written, all); diff != "" {
		t.Errorf("written (-) and there (+):\n%s", diff)
	}
}
