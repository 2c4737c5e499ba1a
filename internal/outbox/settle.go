package outbox

import (
	"context"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// settler settles what a sender has carried, while it claims and carries more. A sender can't be ahead of
// it by more than its channel has room for.
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

// settle records settlements. While the store fails it tries again, until another worker has all of
// the mails or this one is broken off; then they are sent again.
func (w *Worker) settle(ctx context.Context, batch []settled) {
	settlements := make([]Settlement, len(batch))
	var putBack []mailKey
	for i := range batch {
		if settlements[i] = batch[i].what; settlements[i].State == Queued {
			putBack = append(putBack, mailKey{settlements[i].Instance, settlements[i].ID})
		}
	}
	var made []Message
	then := w.hub.hold(putBack...)
	defer func() {
		then(made...)
		if len(putBack) > 0 {
			w.nudge()
		}
	}()
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
			made = append(made, w.takenOver(ctx, b)...)
		default:
			made = append(made, w.record(ctx, b))
		}
	}
}

// takenOver returns a mail, as it is, whose settlement was refused: another worker has taken it, or an
// earlier call that seemed to fail has settled it.
func (w *Worker) takenOver(ctx context.Context, b settled) []Message {
	m, err := w.Store.Message(context.WithoutCancel(ctx), b.mail.Instance, b.mail.ID)
	if err != nil {
		w.Log.ErrorContext(ctx, "a mail can't be read", "instance", b.mail.Instance, "message", b.mail.ID, "err", err)
		return nil
	}
	if a := b.what.Attempt; m.State != b.what.State || a != nil && m.Attempts != a.Number {
		w.Log.WarnContext(ctx, "a mail was taken over before it was settled; it may be sent twice", "instance", m.Instance, "message", m.ID)
	}
	return []Message{m}
}

// record logs what became of a mail that is settled, or back in the queue, and returns it.
func (w *Worker) record(ctx context.Context, b settled) Message {
	m, s := b.mail.Message, b.what
	m.State, m.Reason, m.Recipients, m.Changed, m.Due = s.State, s.Reason, s.Recipients, s.At, s.Due
	m.Version++
	if a := s.Attempt; a != nil {
		m.Attempts, m.ProviderID, m.CredentialVersion = a.Number, a.ProviderID, a.CredentialVersion
	}
	switch s.State {
	case Queued:
		if s.Attempt == nil {
			break
		}
		w.Log.WarnContext(ctx, "mail not sent yet", "instance", m.Instance, "message", m.ID, "attempt", m.Attempts,
			"provider", m.ProviderID, "credential_version", m.CredentialVersion, "step", s.Attempt.Step, "code", s.Attempt.Code,
			"next", s.Due)
	case Failed:
		w.Log.WarnContext(ctx, "mail failed", "instance", m.Instance, "message", m.ID, "attempt", m.Attempts,
			"provider", m.ProviderID, "credential_version", m.CredentialVersion, "step", s.Attempt.Step, "code", s.Attempt.Code)
	default:
		w.Log.DebugContext(ctx, "mail "+string(s.State), "instance", m.Instance, "message", m.ID, "attempt", m.Attempts,
			"provider", m.ProviderID, "credential_version", m.CredentialVersion)
	}
	return m
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
