package app_test

import (
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/disktest"
)

// trouble is what a service meets that goes on running.
type trouble struct {
	name  string
	begin func(*disktest.Disk, *ordeal) (end func()) // an end of nil takes a new start
}

// troubles are two that come and go, and one that stays. (A disk can't be mounted read-only while a file
// of it is open for writing, so its files are made such that nobody can write to them. All but the shared
// memory of SQLite, which can be written to also after the kernel has made the disk read-only.)
var troubles = []trouble{
	{"disk_full", func(d *disktest.Disk, _ *ordeal) func() { return d.Fill() }},
	{"read_only", func(d *disktest.Disk, o *ordeal) func() {
		return d.Protect(o.dir, filepath.Join(o.dir, "mailkeep.db"), filepath.Join(o.dir, "mailkeep.db-wal"), filepath.Join(o.dir, "keyset.json"))
	}},
	{"disk_damaged", func(d *disktest.Disk, o *ordeal) func() { o.close(true); d.Fail(); return nil }}, // as in a power cut
}

// meetTrouble has a service meet it under load and get over it, by itself if that can be.
func (o *ordeal) meetTrouble(disk *disktest.Disk, is trouble) *reader {
	o.t.Helper()
	c := o.start()
	enough := make(chan struct{})
	end := o.begin(c, enough)
	reading := startReader(o, c)
	o.more(50)
	over := is.begin(disk, o)
	o.harms++
	o.until("calls are refused", func() bool { return o.refused() >= len(o.callers) })
	reads := reading.done.Load()
	o.until("there are reads", func() bool { return reading.done.Load() >= reads+50 })
	if over != nil {
		over()
		ended := time.Now()
		o.more(1)
		reading.recovery = time.Since(ended)
		o.more(50)
	}
	reading.stop()
	close(enough)
	end()
	if over != nil {
		c.stop()
	} else {
		c.kill()
		disk.Restore()
	}
	o.inspect()
	o.finish()
	return reading
}

// reader reads while others write.
type reader struct {
	done, failed atomic.Int64
	slowest      time.Duration
	recovery     time.Duration // of the writers
	stop         func()
}

func startReader(o *ordeal, c *child) *reader {
	r, enough, ended := &reader{}, make(chan struct{}), make(chan struct{})
	r.stop = func() { close(enough); <-ended }
	go func() {
		defer close(ended)
		for {
			for path, verb := range map[string]string{
				"/admin/v1/email/_search": http.MethodPost, "/v1/messages/_search": http.MethodPost, "/readyz": http.MethodGet,
			} {
				began := time.Now()
				status, text, err := c.call(verb, path, `{"pageSize":10}`)
				r.slowest = max(r.slowest, time.Since(began))
				if r.done.Add(1); err != nil || status != http.StatusOK {
					r.failed.Add(1)
					o.complain("%s: %d %s %v", path, status, text, err)
				}
			}
			select {
			case <-enough:
				return
			default:
			}
		}
	}()
	return r
}

// patience is how long a change may take to fail, with some time for a machine that is busy.
const patience = 5500*time.Millisecond + 2*time.Second

// TestTrouble has the disk of a service fill up, refuse writes, and worse. Changes and mails are refused
// clearly and soon, reads go on, and when the trouble is over the service does too, with all that it has
// acknowledged and nothing of what it has refused.
func TestTrouble(t *testing.T) {
	for _, is := range troubles {
		t.Run(is.name, func(t *testing.T) {
			disk := disktest.New(t, 32)
			o := newOrdeal(t, filepath.Join(disk.Path(), "data"), "")
			r := o.meetTrouble(disk, is)
			o.mustBeRight()
			var sum figures
			sum.add(o)
			t.Logf("REL %s exhausted=%d unavailable=%d slowest_ms=%d reads=%d reads_failed=%d slowest_read_ms=%d recovery_ms=%d %s", is.name,
				o.exhausted, o.unwritten, o.slowest.Milliseconds(), r.done.Load(), r.failed.Load(),
				r.slowest.Milliseconds(), r.recovery.Milliseconds(), &sum)
			sum.hold(t)
			if r.failed.Load() > 0 || o.slowest > patience {
				t.Error("reads did not go on, or writes took too long to fail")
			}
		})
	}
}

// TestTroubleIsMeasured sees that the test above would notice what it is there for.
func TestTroubleIsMeasured(t *testing.T) {
	for flaw, noticed := range map[string]func(*ordeal, *reader) bool{
		"rash":    func(o *ordeal, _ *reader) bool { return o.lost > 0 },
		"brittle": func(_ *ordeal, r *reader) bool { return r.failed.Load() > 0 },
	} {
		t.Run(flaw, func(t *testing.T) {
			disk := disktest.New(t, 32)
			o := newOrdeal(t, filepath.Join(disk.Path(), "data"), flaw)
			if r := o.meetTrouble(disk, troubles[0]); !noticed(o, r) {
				t.Error("it was not noticed")
			}
		})
	}
}
