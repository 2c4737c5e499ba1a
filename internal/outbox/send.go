package outbox

import (
	"context"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// idlePause is how long an instance without an active provider is left alone. Changed ends it.
const idlePause = 5 * time.Second

// send claims and delivers until there is nothing to do. It is one sender of the lane.
func (w *Worker) send(ctx context.Context, l *lane) {
	settling := w.settler(ctx)
	defer settling.finish()
	for {
		limit, seen := l.begin()
		if w.stopping() {
			l.drop(seen)
			return
		}
		claim, err := w.claim(ctx, l, limit, seen)
		if err != nil {
			w.Log.ErrorContext(ctx, "mails can't be claimed; trying again", "instance", l.instance, "err", err)
			l.hold(w.now().Add(retry), seen)
			w.wakeAfter(l)
		}
		if len(claim.Mails) == 0 {
			if l.leave(seen, w.now()) {
				return
			}
			continue
		}
		if l.claimed(seen) || len(claim.Mails) == limit {
			w.wake(l.instance) // there may be more
		}
		w.deliver(ctx, l, claim, seen, settling)
		if !l.again(w.now(), seen, w.Sessions) {
			return
		}
	}
}

// claim claims mails and heeds what the claim says of the provider.
func (w *Worker) claim(ctx context.Context, l *lane, limit int, seen glance) (Claim, error) {
	now := w.now()
	if err := w.keep(ctx, now); err != nil {
		return Claim{}, err
	}
	claim, err := w.Queue.Claim(ctx, ClaimRequest{
		Instance: l.instance, Now: now, Until: now.Add(w.Lease), Limit: limit, ProbeAfter: probeAfter,
	})
	if err != nil {
		return Claim{}, err
	}
	switch {
	case claim.Provider.ID == "":
		l.hold(now.Add(idlePause), seen)
	case !claim.Probe.IsZero() && len(claim.Mails) == 0:
		l.hold(minTime(claim.Probe, now.Add(idlePause)), seen) // another process may see a new credential first
	}
	for _, m := range claim.Mails {
		w.leases.add(m.Lease(), now.Add(w.Lease))
		w.hub.publish(m.Message)
	}
	return claim, nil
}

// deliver carries claimed mails and has them settled.
func (w *Worker) deliver(ctx context.Context, l *lane, claim Claim, seen glance, settling *settler) {
	started := w.now()
	o := outcome{now: started, keep: w.KeepBodies}
	usable, tried := false, 0
	defer func() {
		if usable {
			l.worked(len(claim.Mails), tried, w.now().Sub(started))
		}
	}()
	route, err := w.Providers.Route(claim.Provider)
	if err != nil {
		w.Log.ErrorContext(ctx, "the active provider can't be used; its mails stay queued", "instance", l.instance,
			"provider", claim.Provider.ID, "err", err)
		l.failed(started, seen, true)
		w.wakeAfter(l)
		settling.putBack(claim.Mails, o)
		return
	}
	o.via = route
	proved, ok := l.prove(ctx, credential{route.ProviderID, route.Sequence, route.CredentialVersion}, seen)
	if !ok {
		settling.putBack(claim.Mails, o)
		return
	}
	defer func() { proved(usable) }()
	mails, claimed := w.open(claim.Mails, settling, o)
	if len(mails) == 0 {
		return
	}
	w.Carrier.Carry(ctx, route, mails, func(i int, d emailprovider.Delivery) (more bool) {
		o.now, o.jitter = w.now(), w.jitter()
		if !d.Untried {
			tried++
		}
		switch {
		case blamesSession(d.Failed):
			usable = false
			l.failed(o.now, seen, refusesCredential(d.Failed))
			w.wakeAfter(l)
		case len(d.Steps) > 0: // else the provider has not heard of it
			usable = true
			proved(true)
		}
		settling.add(claimed[i], decide(claimed[i], d, o))
		// The provider may have been changed or removed since, and a mail's life may be over.
		return !l.resumed(seen) && (i+1 == len(claimed) || claimed[i+1].Expires.After(o.now))
	})
}

// open returns the mails that can be sent. Those whose content does not open go back to the queue.
func (w *Worker) open(claimed []ClaimedMail, settling *settler, o outcome) ([]emailprovider.Mail, []ClaimedMail) {
	mails := make([]emailprovider.Mail, 0, len(claimed))
	kept := make([]ClaimedMail, 0, len(claimed))
	for _, m := range claimed {
		c, err := openContent(w.Sealer, m.Message, m.Content)
		if err != nil {
			w.Log.Error("the content of a mail does not open; it stays queued", "instance", m.Instance, "message", m.ID,
				"key_id", m.Content.KeyID, "err", err)
			settling.add(m, unreadable(m, o))
			continue
		}
		mails, kept = append(mails, compose(m.Message, c)), append(kept, m)
	}
	return mails, kept
}

// compose puts a mail together.
func compose(m Message, c Content) emailprovider.Mail {
	mail := emailprovider.Mail{
		MessageID: c.MessageID, Date: m.Created, ReplyTo: c.ReplyTo, Subject: c.Subject, Text: c.Text, HTML: c.HTML,
		Headers: c.Headers, Attachments: c.Attachments, Args: map[string]string{"id": m.ID},
	}
	if m.Tag != "" {
		mail.Args["tag"] = m.Tag
	}
	for _, r := range m.Recipients {
		switch r.Kind {
		case To:
			mail.To = append(mail.To, r.Address)
		case Cc:
			mail.Cc = append(mail.Cc, r.Address)
		case Bcc: // no header names it
		}
		if r.State == Pending {
			mail.Recipients = append(mail.Recipients, r.Address)
		}
	}
	return mail
}
