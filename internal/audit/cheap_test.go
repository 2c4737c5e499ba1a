//go:build !race

package audit

import "testing"

// TestTagIsCheap: it is made for each change. Under the race detector pools forget what they have.
func TestTagIsCheap(t *testing.T) {
	c := New(oneKey{})
	row := Row{Instance: "default", Type: "provider.updated", Details: `{"fields":["password"]}`}
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Tag(&row) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
