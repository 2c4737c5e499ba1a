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
	for {
		limit, seen := l.begin()
		if w.stopping() {
			l.drop()
			return
		}
		claim, err := w.claim(ctx, l, limit, seen)
		if err != nil {
			w.Log.ErrorContext(ctx, "mails can't be claimed; trying again", "instance", l.instance, "err", err)
			l.hold(w.now().Add(retry), seen)
		}
		if len(claim.Mails) == 0 {
			if l.leave(seen, w.now()) {
				return
			}
			continue
		}
		l.claimed()
		if len(claim.Mails) == limit {
			w.wake(l.instance) // there may be more
		}
		w.deliver(ctx, l, claim, seen)
		if !l.again(w.now()) {
			return
		}
	}
}

// claim claims mails and heeds what the claim says of the provider.
func (w *Worker) claim(ctx context.Context, l *lane, limit int, seen glance) (Claim, error) {
	now := w.now()
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
		w.leases.add(Lease{m.Instance, m.ID, m.Fence})
		w.hub.publish(m.Message)
	}
	return claim, nil
}

// deliver carries claimed mails and settles them.
func (w *Worker) deliver(ctx context.Context, l *lane, claim Claim, seen glance) {
	started := w.now()
	o := outcome{now: started, keep: w.KeepBodies}
	settling := w.settler(ctx)
	usable := false
	defer func() {
		settling.finish()
		if usable {
			l.worked(len(claim.Mails), w.now().Sub(started))
		}
	}()
	route, err := w.Providers.Route(claim.Provider)
	if err != nil {
		w.Log.ErrorContext(ctx, "the active provider can't be used; its mails stay queued", "instance", l.instance,
			"provider", claim.Provider.ID, "err", err)
		l.failed(started, seen)
		settling.putBack(claim.Mails, o)
		return
	}
	o.via = route
	proved, ok := l.prove(ctx, credential{route.ProviderID, route.Sequence, route.CredentialVersion})
	if !ok {
		settling.putBack(claim.Mails, o)
		return
	}
	defer func() { proved(usable) }()
	mails, claimed := w.open(claim.Mails, settling, o)
	if len(mails) == 0 {
		return
	}
	w.Carrier.Carry(ctx, route, mails, func(i int, d emailprovider.Delivery) {
		o.now, o.jitter = w.now(), w.jitter()
		switch {
		case blamesSession(d.Failed):
			usable = false
			l.failed(o.now, seen)
		case !d.Untried:
			usable = true
			proved(true)
		}
		settling.add(claimed[i], decide(claimed[i], d, o))
	})
}

// open returns the mails that can be sent. Those whose content does not open go back to the queue.
func (w *Worker) open(claimed []ClaimedMail, settling *settler, o outcome) ([]emailprovider.Mail, []ClaimedMail) {
	mails := make([]emailprovider.Mail, 0, len(claimed))
	kept := make([]ClaimedMail, 0, len(claimed))
	for _, m := range claimed {
		c, err := openContent(w.Sealer, m.Instance, m.ID, m.Content)
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
