package app_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// frozen is what came of calls while the synchronous standby hung.
type frozen struct {
	falseOK, unknown, refused int
	reads, failedReads        int
	recovery                  time.Duration
	verdict
}

// onItsWay is how long an answer may be that was given before.
const onItsWay = 2 * time.Second

// freezeStandby has the standby hang under load for a while, and go on.
func freezeStandby(t *testing.T, span time.Duration, wrap func(app.Store) app.Store) (r frozen) {
	t.Helper()
	s := startServers(t, false)
	f := startFleet(t, 3, s.url(), func(_ int, c *app.Config) { c.WrapStore = wrap })
	inbox := friendly(t)
	j := newJournal(t, f.any)
	j.load(inbox.Addr(), 4, 4)
	j.more(300, soon)

	s.must(s.standby().Freeze(t.Context()))
	froze := time.Now()
	for time.Since(froze) < span {
		r.reads++
		began := time.Now()
		status, _, err := j.call(f.any(), "", "POST", "/admin/v1/email/_search", `{}`)
		if err != nil || status != 200 || time.Since(began) > time.Second+slack {
			r.failedReads++
		}
		j.pause(sendPause)
	}
	thawed := time.Now()
	s.must(s.standby().Thaw())
	r.recovery = j.recovered(f.urls())
	j.stop()
	s.quiet()
	r.verdict = j.judge(s.db())
	j.count(func(e *entry) bool {
		if (e.began.After(froze) || e.ended.After(froze.Add(onItsWay))) && e.ended.Before(thawed) {
			switch {
			case e.idle:
			case e.outcome == made:
				r.falseOK++
			case e.outcome == unknown:
				r.unknown++
			default:
				r.refused++
			}
		}
		return false
	})
	t.Logf("REL frozen_standby seconds=%.0f unknown=%d refused=%d false_ok=%d slowest_ms=%d reads=%d failed_reads=%d recovery_ms=%d; %v",
		span.Seconds(), r.unknown, r.refused, r.falseOK, j.slowest.Milliseconds(), r.reads, r.failedReads, r.recovery.Milliseconds(), r.verdict)
	return r
}

// TestFrozenStandby: while the synchronous standby hangs nobody is told that a change was made. What is
// unknown is wholly there or not at all afterwards, and everything goes on without a restart.
func TestFrozenStandby(t *testing.T) {
	t.Parallel()
	r := freezeStandby(t, time.Duration(atLength(7, 20))*time.Second, nil)
	if r.falseOK > 0 || r.failedReads > 0 || !r.clean() {
		t.Error("the promise is broken")
	}
	if r.unknown == 0 || r.reads < 10 {
		t.Error("it was hardly looked at")
	}
	if r.recovery > 5*time.Second+slack {
		t.Errorf("it took %s to go on", r.recovery)
	}
}

// credulous is a store that takes what is unknown for done.
type credulous struct {
	app.Store
	believed *atomic.Int64
}

func (c credulous) believe(err error) error {
	var f *fault.Error
	if errors.As(err, &f) && f.ID == "MAILKEEP-OUTCOME" {
		c.believed.Add(1)
		return nil
	}
	return err
}

func (c credulous) Apply(ctx context.Context, change emailprovider.Change) (uint64, error) {
	sequence, err := c.Store.Apply(ctx, change)
	return sequence, c.believe(err)
}

func (c credulous) Accept(ctx context.Context, m outbox.Message, content outbox.Sealed) (outbox.Message, error) {
	kept, err := c.Store.Accept(ctx, m, content)
	return kept, c.believe(err)
}

// TestFrozenStandbyIsMeasured sees that the test above would notice a change that is said to be made too early.
func TestFrozenStandbyIsMeasured(t *testing.T) {
	t.Parallel()
	if r := freezeStandby(t, 6*time.Second, func(s app.Store) app.Store { return credulous{s, new(atomic.Int64)} }); r.falseOK == 0 {
		t.Error("it was not noticed")
	}
}
