package app_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/disktest"
)

// cut cuts the power. What is acknowledged meanwhile does not count: the kernel tells of a sync that meets
// the cut that it has succeeded, which no disk without power does.
func (o *ordeal) cut(disk *disktest.Disk) func(*child) {
	return func(c *child) {
		o.close(true)
		disk.Cut()
		c.kill()
		disk.Restore()
	}
}

// TestPowerCut is TestKillChanges with the disk's power cut. That needs what nobody notices before: that
// everything is synced before it is acknowledged, files and the names of files too.
func TestPowerCut(t *testing.T) {
	var sum figures
	disk := disktest.New(t, 64)
	for folder := range atLength(1, 10) {
		o := newOrdeal(t, filepath.Join(disk.Path(), fmt.Sprint("data", folder)), "")
		o.interrupt(rand.N(80*time.Millisecond), o.cut(disk))
		o.round(1, o.cut(disk)) // the first start
		for range atLength(2, 4) {
			o.round(20+rand.N(150), o.cut(disk))
		}
		o.finish()
		o.mustBeRight()
		sum.add(o)
	}
	t.Logf("REL power_cut cuts=%d %s", sum.harms, &sum)
	sum.hold(t)
}

// TestPowerCutIsMeasured sees that the test above would notice a store that doesn't sync before it
// acknowledges; nothing but a power cut shows that.
func TestPowerCutIsMeasured(t *testing.T) {
	disk := disktest.New(t, 64)
	o := newOrdeal(t, filepath.Join(disk.Path(), "data"), "unsynced")
	for range 10 {
		if o.round(100, o.cut(disk)); o.lost > 0 {
			break
		}
	}
	t.Logf("REL power_cut flaw=%q cuts=%d acknowledged=%d lost=%d", o.flaw, o.harms, o.calls, o.lost)
	if o.lost == 0 {
		t.Error("it was not noticed")
	}
}
