package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// maxMails is how many mails a session carries. It is also how long a server's address is believed.
const maxMails = 1000

// Carry hands mails to the provider of a route, one after another, and calls done once for each, in
// order, as soon as its fate is known. When done says that there are no more, those left are untried.
// It returns when done was called for all.
//
// Over SMTP, sessions are kept between calls, for as long as the provider stays as it is. A failure
// of the session before any of a mail was said is that mail's, and those after it are untried; after
// one in the midst of a mail the others go on over another session.
func (t *Transport) Carry(ctx context.Context, via emailprovider.Route, mails []emailprovider.Mail, done func(i int, d emailprovider.Delivery) (more bool)) {
	c := &carriage{t: t.patient, ctx: ctx, via: via, mails: mails, done: done}
	if via.HTTP != nil {
		c.post()
	} else {
		c.sail()
	}
	for ; c.next < len(mails); c.next++ {
		done(c.next, emailprovider.Delivery{Untried: true})
	}
}

// carriage is one call of Carry.
type carriage struct {
	t     *Transport
	ctx   context.Context
	via   emailprovider.Route
	mails []emailprovider.Mail
	done  func(i int, d emailprovider.Delivery) (more bool)

	next    int       // the first mail whose fate is not known
	stopped bool      // no other mail is to be begun
	parcels [2]parcel // of it and the one after it
}

// parcel is a mail as it is composed.
type parcel struct {
	of int // one more than the index of the mail
	envelope
	err error
}

// post carries mails to a webhook, until one meets a failure that the others would meet too.
func (c *carriage) post() {
	for c.more() {
		d := c.t.post(c.ctx, c.via, c.mails[c.next])
		c.settle(d)
		if f := d.Failed; f != nil && (f.Step != emailprovider.StepPost || f.Temporary) {
			return
		}
	}
}

// settle tells the fate of the next mail.
func (c *carriage) settle(d emailprovider.Delivery) {
	c.stopped = !c.done(c.next, d)
	c.next++
}

// more reports whether there is another mail to begin.
func (c *carriage) more() bool { return c.next < len(c.mails) && !c.stopped && c.ctx.Err() == nil }

// sail carries mails over as many sessions as it takes, one at a time.
func (c *carriage) sail() {
	b, err := c.t.pool.enter(c.ctx, c.via)
	if err != nil {
		return
	}
	defer b.leave()
	anew := false
	for c.more() {
		if err := c.parcel(c.next).err; err != nil {
			c.refuse(err)
			continue
		}
		var s *session
		if !anew {
			s = b.take()
		}
		if s == nil {
			if s = c.open(); s == nil {
				return
			}
		}
		anew = c.over(s)
		b.put(s)
		if anew {
			b.clear()
		}
	}
}

// over carries mails over a session while it lasts. It reports whether the session had ended before
// the next mail began, which is not the mail's fault and can't happen on a new one.
func (c *carriage) over(s *session) (unheard bool) {
	stop := s.until(c.ctx)
	defer func() { s.broken = !stop() || s.broken }()
	for c.next < len(c.mails) && !c.stopped && s.usable() {
		p := c.parcel(c.next)
		if err := p.fits(s); err != nil {
			c.refuse(err)
			continue
		}
		o := s.hand(&p.envelope, c.following(s))
		if o.unheard {
			return c.ctx.Err() == nil
		}
		c.settle(c.delivery(s, &o, len(p.to)))
	}
	s.broken = s.broken || c.stopped && s.asked // the server has heard of a mail that is not to be sent
	return false
}

// usable reports whether the session can carry another mail.
func (s *session) usable() bool { return !s.broken && s.mails < maxMails }

// open returns a new session, or nil if that is what the next mail has failed for.
func (c *carriage) open() *session {
	w := &watch{clean: newRedactor(c.via.Secret)}
	began := time.Now()
	s, err := c.t.open(context.WithValue(c.ctx, watchKey{}, w), c.via, w.clean)
	report := w.finish(c.ctx, err)
	switch {
	case err == nil:
		s.began, s.setup = began, stepTimes(report.Steps)
	case c.ctx.Err() == nil:
		if f := report.Failed; f.Code != 0 { // the server may remember an attempt before
			f.Text = w.clean.about(c.via, c.mails[c.next]).quote(f.Text)
		}
		c.settle(emailprovider.Delivery{Started: began, Failed: report.Failed, Steps: stepTimes(report.Steps)})
	}
	return s
}

// refuse tells that the next mail has failed before anything of it was said.
func (c *carriage) refuse(err error) {
	c.settle(emailprovider.Delivery{Started: time.Now(), Failed: c.explain(err, newRedactor(c.via.Secret))})
}

// parcel returns the mail of an index, composed.
func (c *carriage) parcel(i int) *parcel {
	p := &c.parcels[i%len(c.parcels)]
	if p.of != i+1 {
		e, err := c.t.compose(*c.via.SMTP, c.mails[i])
		*p = parcel{i + 1, e, err}
	}
	return p
}

// fits says why a mail can't be handed over on a session, whatever the server would reply.
func (p *parcel) fits(s *session) error {
	if p.err != nil {
		return p.err
	}
	return s.takes(&p.envelope)
}

// following returns the mail after the next if it can go over the same session, else nil.
func (c *carriage) following(s *session) *envelope {
	if c.next+1 == len(c.mails) || s.mails+1 >= maxMails {
		return nil
	}
	p := c.parcel(c.next + 1)
	if p.fits(s) != nil {
		return nil
	}
	return &p.envelope
}

// delivery makes an outcome one that can be shown.
func (c *carriage) delivery(s *session, o *outcome, recipients int) emailprovider.Delivery {
	d := emailprovider.Delivery{Started: o.laps.began, Steps: o.laps.steps}
	if s.setup != nil {
		d.Started, d.Steps = s.began, append(s.setup, d.Steps...)
		if state := s.tlsState(); state != nil {
			d.CertificateExpires = state.PeerCertificates[0].NotAfter
		}
		s.setup = nil
	}
	clean := s.clean
	if o.failed != nil || o.refusals != nil {
		clean = clean.about(c.via, c.mails[c.next])
	}
	if o.failed != nil {
		d.Failed = c.explain(o.failed, clean)
	}
	if o.failed == nil || o.refused() {
		d.Verdicts = make([]emailprovider.Verdict, recipients)
		for i, err := range o.refusals {
			if err != nil {
				d.Verdicts[i].Refused = c.explain(err, clean)
			}
		}
	}
	return d
}

// explain is what the function of that name says, but for a mail nothing is final that the server has
// not refused with 5xx, or we ourselves: nonsense may be over with the next connection.
func (c *carriage) explain(err error, clean *redactor) *emailprovider.DeliveryError {
	e := explain(c.ctx, err, clean)
	if f, ok := errors.AsType[*failure](err); !ok || !f.final {
		e.Temporary = e.Code/100 != 5
	}
	return e
}

// stepTimes turns what a watch has seen of opening a session into the steps of a delivery.
func stepTimes(seen []emailprovider.StepReport) []emailprovider.StepTime {
	var l laps
	for _, s := range seen {
		step := emailprovider.Step(s.Name)
		switch s.Name {
		case seenDNS, seenTCP:
			step = emailprovider.StepDial
		case seenGreeting:
			step = emailprovider.StepEHLO
		}
		l.add(step, s.Took)
	}
	return l.steps
}
