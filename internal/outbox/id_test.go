package outbox

import (
	"slices"
	"testing"
	"time"
)

func TestID(t *testing.T) {
	var ids []string
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 100 {
		// From a microsecond to more than a year apart.
		at = at.Add(time.Microsecond << (i % 46))
		id := NewID(at)
		if len(id) != idLength || id < FirstID(at) || id >= FirstID(at.Add(time.Microsecond)) {
			t.Fatalf("%s: %s, the first is %s", at, id, FirstID(at))
		}
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by time")
	}
	if one, other := NewID(at), NewID(at); one == other {
		t.Error("two mails at one time have one id")
	}
}
