package seal_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/seal"
)

// keyRows are instances' keys as a database has them, the latest first.
type keyRows struct {
	rows  []instance.Key
	reads int
}

func (k *keyRows) InstanceKeys(_ context.Context, id string) (of []instance.Key, err error) {
	k.reads++
	for _, row := range k.rows {
		if row.Instance == id {
			of = append(of, row)
		}
	}
	return of, nil
}

func (k *keyRows) AddInstanceKey(_ context.Context, row instance.Key) error {
	k.rows = slices.Insert(k.rows, 0, row)
	return nil
}

func (k *keyRows) RewrapInstanceKey(_ context.Context, row instance.Key) error {
	i := slices.IndexFunc(k.rows, func(r instance.Key) bool { return r.Instance == row.Instance && r.ID == row.ID })
	k.rows[i] = row
	return nil
}

func (k *keyRows) PresentInstances(context.Context) (ids []string, err error) {
	for _, row := range k.rows {
		if !slices.Contains(ids, row.Instance) {
			ids = append(ids, row.Instance)
		}
	}
	return ids, nil
}

func (k *keyRows) remove(id string) {
	k.rows = slices.DeleteFunc(k.rows, func(row instance.Key) bool { return row.Instance == id })
}

// newRing returns a ring of the instances a and b, and what it stands on.
func newRing(t *testing.T) (*seal.Ring, *keyRows, *seal.Keyset) {
	t.Helper()
	keyset, err := seal.Create(&memory{})
	if err != nil {
		t.Fatal(err)
	}
	rows := &keyRows{}
	r := seal.NewRing(keyset, rows, time.Now)
	for _, id := range []string{"a", "b"} {
		if err := r.Renew(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return r, rows, keyset
}

var text, belongs = []byte("c4n4ry"), []byte("what it belongs to")

func sealedFor(t *testing.T, r *seal.Ring, id string) emailprovider.Sealed {
	t.Helper()
	s, err := r.SealBytes(id, text, belongs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func opensFor(r *seal.Ring, id string, s emailprovider.Sealed) bool {
	got, err := r.OpenBytes(id, s, belongs)
	return err == nil && string(got) == string(text)
}

// TestInstancesSealApart: what is one instance's opens nowhere else, though all that it is bound to were
// the same, and however rows are swapped.
func TestInstancesSealApart(t *testing.T) {
	r, rows, keyset := newRing(t)
	ofA, ofB := sealedFor(t, r, "a"), sealedFor(t, r, "b")
	attempts := map[string]func() bool{
		"a's as b's":       func() bool { return opensFor(r, "b", ofA) },
		"b's as a's":       func() bool { return opensFor(r, "a", ofB) },
		"a's as default's": func() bool { return opensFor(r, instance.Default, ofA) },
		"with the keyset":  func() bool { _, err := keyset.OpenBytes(ofA, belongs); return err == nil },
		"with a's key as a row of b": func() bool {
			moved := *rows
			moved.rows = slices.Clone(rows.rows)
			for i := range moved.rows {
				moved.rows[i].Instance = "b"
			}
			return opensFor(seal.NewRing(keyset, &moved, time.Now), "b", ofA)
		},
	}
	for name, opened := range attempts {
		if opened() {
			t.Errorf("%s: it opens", name)
		}
	}
	if !opensFor(r, "a", ofA) || !opensFor(r, "b", ofB) || !opensFor(seal.NewRing(keyset, rows, time.Now), "a", ofA) {
		t.Error("red control: what must open does not")
	}
	t.Logf("REL apart attempts=%d opened=0", len(attempts))
}

// TestRemovedInstanceStaysShut: without its rows nothing of an instance opens, but in a process that has not
// looked since.
func TestRemovedInstanceStaysShut(t *testing.T) {
	r, rows, keyset := newRing(t)
	ofA := sealedFor(t, r, "a")
	if !opensFor(r, "a", ofA) {
		t.Fatal("red control: it does not open before")
	}
	rows.remove("a")
	r.Forget("a")
	if opensFor(r, "a", ofA) || opensFor(seal.NewRing(keyset, rows, time.Now), "a", ofA) {
		t.Error("it opens without its key")
	}
	if _, err := r.SealBytes("a", text, belongs); err == nil {
		t.Error("something is sealed for an instance without a key")
	}
	if !opensFor(r, "b", sealedFor(t, r, "b")) {
		t.Error("the other instance has lost something")
	}
}

// TestForgetWhileReading: a key that was being read when its instance was removed is not kept.
func TestForgetWhileReading(t *testing.T) {
	r, rows, keyset := newRing(t)
	ofA := sealedFor(t, r, "a")
	late := &lateRows{keyRows: rows}
	r = seal.NewRing(keyset, late, time.Now)
	late.then = func() { rows.remove("a"); r.Forget("a") }
	if !opensFor(r, "a", ofA) {
		t.Fatal("what was read before the removal does not open")
	}
	if late.then = nil; opensFor(r, "a", ofA) {
		t.Error("a key outlives its instance in memory")
	}
}

// lateRows are rows that change as soon as they were read.
type lateRows struct {
	*keyRows
	then func()
}

func (l *lateRows) InstanceKeys(ctx context.Context, id string) ([]instance.Key, error) {
	rows, err := l.keyRows.InstanceKeys(ctx, id)
	if l.then != nil {
		l.then()
	}
	return rows, err
}

// TestDefaultBeforeItsKey: what an installation has sealed with the keyset goes on opening when its instance
// gets a key of its own, which is what seals then.
func TestDefaultBeforeItsKey(t *testing.T) {
	r, _, keyset := newRing(t)
	old, err := keyset.SealBytes(text, belongs)
	if err != nil {
		t.Fatal(err)
	}
	if s := sealedFor(t, r, instance.Default); s.KeyID != old.KeyID || !opensFor(r, instance.Default, old) {
		t.Errorf("without a key of its own default seals with %d, want the keyset's %d", s.KeyID, old.KeyID)
	}
	if _, err := keyset.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := r.Renew(t.Context(), instance.Default); err != nil {
		t.Fatal(err)
	}
	s := sealedFor(t, r, instance.Default)
	if s.KeyID != r.Current(instance.Default) || !opensFor(r, instance.Default, s) || !opensFor(r, instance.Default, old) {
		t.Error("default does not seal with its own key, or what is older does not open")
	}
	if opensFor(r, "a", old) {
		t.Error("what the keyset has sealed opens for another instance")
	}
	if _, err := keyset.OpenBytes(s, belongs); err == nil {
		t.Error("the keyset opens what default's own key has sealed")
	}
}

// TestRenewAll: afterwards the old key of the keyset wraps nothing, everything opens, and new keys seal.
func TestRenewAll(t *testing.T) {
	r, rows, keyset := newRing(t)
	ofA, before := sealedFor(t, r, "a"), r.Current("a")
	primary, err := keyset.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.RenewAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(rows.rows) != 4 || r.Current("a") == before {
		t.Errorf("%d keys of two instances, a's current one is %d after %d", len(rows.rows), r.Current("a"), before)
	}
	for _, row := range rows.rows {
		if row.Wrapped.KeyID != primary {
			t.Errorf("a key of %s is wrapped by %d, want %d", row.Instance, row.Wrapped.KeyID, primary)
		}
	}
	if !opensFor(r, "a", ofA) || sealedFor(t, r, "a").KeyID != r.Current("a") {
		t.Error("what was sealed before does not open, or the new key does not seal")
	}
	// As another process, whose keys are those from before.
	other := seal.NewRing(keyset, &keyRows{rows: rows.rows[2:]}, time.Now)
	if opensFor(other, "a", sealedFor(t, r, "a")) {
		t.Fatal("red control: the new key opens without its row")
	}
}

// TestKeysAreRead: keys are read once, and once more for what another process has made.
func TestKeysAreRead(t *testing.T) {
	r, rows, keyset := newRing(t)
	ofA := sealedFor(t, r, "a")
	rows.reads = 0
	for range 100 {
		if !opensFor(r, "a", ofA) || r.Current("a") != ofA.KeyID {
			t.Fatal("it does not open")
		}
	}
	if rows.reads != 0 {
		t.Errorf("%d reads for what is known", rows.reads)
	}
	other := seal.NewRing(keyset, rows, time.Now)
	if err := other.Renew(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if !opensFor(r, "a", sealedFor(t, other, "a")) || rows.reads > 2 {
		t.Errorf("what another process's key has sealed does not open, or took %d reads", rows.reads)
	}
}

// TestKeysCanNotBeRead: what may open later is not called shut, and nothing is sealed with another key meanwhile.
func TestKeysCanNotBeRead(t *testing.T) {
	r, rows, keyset := newRing(t)
	ofA := sealedFor(t, r, "a")
	down := &downRows{keyRows: rows, err: errors.New("down")}
	r = seal.NewRing(keyset, down, time.Now)
	for _, id := range []string{"a", instance.Default} {
		_, err := r.OpenBytes(id, ofA, belongs)
		_, err2 := r.SealBytes(id, text, belongs)
		if fault.KindOf(err) != fault.Unavailable || fault.KindOf(err2) != fault.Unavailable {
			t.Errorf("%s: %v, %v", id, err, err2)
		}
	}
	if down.err = nil; !opensFor(r, "a", ofA) {
		t.Error("it does not open when the keys can be read again")
	}
}

type downRows struct {
	*keyRows
	err error
}

func (d *downRows) InstanceKeys(ctx context.Context, id string) ([]instance.Key, error) {
	if d.err != nil {
		return nil, d.err
	}
	return d.keyRows.InstanceKeys(ctx, id)
}
