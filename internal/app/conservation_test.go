package app_test

import (
	"context"
	"slices"
	"testing"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// conserve sends mails of every fate and lists all mails over and over meanwhile. It returns how often it
// did, how often a mail that had been acknowledged before was not there or there twice, and the states.
func conserve(t *testing.T, mails int, wrap func(app.Store) app.Store) (samples, wrong int, states map[string]int) {
	k := newKilling(t, "")
	c := config(t)
	c.WrapStore = wrap
	service := &child{t: t, client: k.client, url: start(t, c).URL(), token: adminToken}
	k.activate(service)
	loading := make(chan struct{})
	go func() { defer close(loading); k.load(service, mails) }()
	for over := false; !over; samples++ {
		select {
		case <-loading:
			over = true // one last sample
		default:
		}
		k.mu.Lock()
		before := make([]string, 0, len(k.promised))
		for id := range k.promised {
			before = append(before, id)
		}
		k.mu.Unlock()
		count := map[string]int{}
		states = map[string]int{}
		for _, m := range k.list(service, `"states":[]`) {
			count[m.ID]++
			states[m.State]++
		}
		for _, id := range before {
			if count[id] != 1 {
				wrong++
			}
		}
	}
	k.client.CloseIdleConnections() // a server waits for one that was never used
	for _, w := range slices.Compact(k.wrong) {
		t.Error(w)
	}
	return samples, wrong, states
}

// TestConservation wants every acknowledged mail to be in exactly one state at every instant.
func TestConservation(t *testing.T) {
	const mails = 2000
	samples, wrong, states := conserve(t, mails, nil)
	total := 0
	for _, n := range states {
		total += n
	}
	t.Logf("REL conservation mails=%d samples=%d errors=%d total=%d states=%v", mails, samples, wrong, total, states)
	if wrong > 0 || samples < 5 || total != mails {
		t.Error("mails are not conserved, or it was hardly looked at")
	}
}

// blinking is a store that does not see mails while they are sent.
type blinking struct{ app.Store }

func (b blinking) Messages(ctx context.Context, instance string, f outbox.Filter) ([]outbox.Message, error) {
	if len(f.States) == 0 {
		f.States = slices.DeleteFunc(outbox.States(), func(s outbox.State) bool { return s == outbox.Sending })
	}
	return b.Store.Messages(ctx, instance, f)
}

// TestConservationIsMeasured sees that the test above would notice mails that are in no state for a moment.
func TestConservationIsMeasured(t *testing.T) {
	if _, wrong, _ := conserve(t, 500, func(s app.Store) app.Store { return blinking{s} }); wrong == 0 {
		t.Error("mails that were gone for a moment were not noticed")
	}
}
