package outbox

import (
	"context"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// settler settles mails while others are still carried.
type settler struct {
	w       *Worker
	ctx     context.Context
	pending chan settled
	done    chan struct{}
}

type settled struct {
	mail ClaimedMail
	what Settlement
}

func (w *Worker) settler(ctx context.Context) *settler {
	s := &settler{w: w, ctx: ctx, pending: make(chan settled, maxBatch), done: make(chan struct{})}
	go s.run()
	return s
}

// add hands over what became of a mail.
func (s *settler) add(m ClaimedMail, what Settlement) {
	s.pending <- settled{m, what}
}

// putBack hands over mails that were not tried.
func (s *settler) putBack(mails []ClaimedMail, o outcome) {
	for _, m := range mails {
		s.add(m, decide(m, emailprovider.Delivery{Untried: true}, o))
	}
}

// finish waits until everything is recorded.
func (s *settler) finish() {
	close(s.pending)
	<-s.done
}

// run records what has gathered, as one, until there is no more.
func (s *settler) run() {
	defer close(s.done)
	for first := range s.pending {
		batch := []settled{first}
		for more := true; more; {
			select {
			case next, ok := <-s.pending:
				if more = ok; ok {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		s.w.settle(s.ctx, batch)
	}
}

// settle records settlements; while the store fails it tries again until their leases have passed.
// Afterwards somebody else sends the mails again.
func (w *Worker) settle(ctx context.Context, batch []settled) {
	settlements := make([]Settlement, len(batch))
	for i := range batch {
		settlements[i] = batch[i].what
	}
	refused, err := w.Queue.Settle(context.WithoutCancel(ctx), settlements)
	for wait := 50 * time.Millisecond; err != nil; wait = min(2*wait, 5*time.Second) {
		w.Log.ErrorContext(ctx, "mails can't be settled; trying again", "mails", len(batch), "err", err)
		if !w.leases.any(settlements) || !sleep(ctx, wait) {
			break
		}
		refused, err = w.Queue.Settle(context.WithoutCancel(ctx), settlements)
	}
	lost := map[Lease]bool{}
	for _, l := range refused {
		lost[l] = true
	}
	for _, b := range batch {
		w.leases.remove(b.what.Lease)
		switch {
		case err != nil:
		case lost[b.what.Lease]:
			w.Log.WarnContext(ctx, "a mail was taken over before it was settled; it may be sent twice", "instance", b.mail.Instance, "message", b.mail.ID)
		default:
			w.record(ctx, b)
		}
	}
}

// record tells of a mail that is settled, or back in the queue.
func (w *Worker) record(ctx context.Context, b settled) {
	m, s := b.mail.Message, b.what
	m.State, m.Reason, m.Recipients, m.Changed, m.Due = s.State, s.Reason, s.Recipients, s.At, s.Due
	if a := s.Attempt; a != nil {
		m.Attempts, m.ProviderID, m.CredentialVersion = a.Number, a.ProviderID, a.CredentialVersion
	}
	w.hub.publish(m)
	switch s.State {
	case Queued:
		if s.Attempt == nil {
			return
		}
		w.Log.WarnContext(ctx, "mail not sent yet", "instance", m.Instance, "message", m.ID, "attempt", m.Attempts,
			"provider", m.ProviderID, "credential_version", m.CredentialVersion, "next", s.Due, "reason", m.Reason)
	case Failed:
		w.Log.ErrorContext(ctx, "mail failed", "instance", m.Instance, "message", m.ID, "attempt", m.Attempts,
			"provider", m.ProviderID, "credential_version", m.CredentialVersion, "reason", m.Reason)
	default:
		w.Log.DebugContext(ctx, "mail "+string(s.State), "instance", m.Instance, "message", m.ID, "attempt", m.Attempts,
			"provider", m.ProviderID, "credential_version", m.CredentialVersion)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
