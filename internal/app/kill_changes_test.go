package app_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// TestKillChanges kills a service that takes changes of providers, tokens and keys, and mails. All that
// was acknowledged is there, with its event; what was not answered is there as a whole or not at all, and
// what was refused is not.
func TestKillChanges(t *testing.T) {
	var sum figures
	for range atLength(1, 10) { // data folders
		o := newOrdeal(t, filepath.Join(t.TempDir(), "data"), "")
		for range atLength(12, 20) {
			o.round(20+rand.N(60), (*child).kill)
		}
		o.finish()
		o.mustBeRight()
		sum.add(o)
	}
	t.Logf("REL kill_changes kills=%d %s", sum.harms, &sum)
	sum.hold(t)
}

// TestKillChangesIsMeasured sees that the test above would notice what it is there for.
func TestKillChangesIsMeasured(t *testing.T) {
	for flaw, noticed := range map[string]func(*ordeal) bool{
		"rash":     func(o *ordeal) bool { return o.lost > 0 },
		"doubtful": func(o *ordeal) bool { return len(o.wrong) > 0 },
	} {
		t.Run(flaw, func(t *testing.T) {
			o := newOrdeal(t, filepath.Join(t.TempDir(), "data"), flaw)
			o.round(100, (*child).kill)
			if !noticed(o) {
				t.Error("it was not noticed")
			}
		})
	}
}
