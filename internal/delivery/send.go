package delivery

import (
	"bytes"
	"context"
	"slices"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// envelope is a composed mail: who gets it from whom, and the message. The addresses have been
// checked, so they can't end a path or add a parameter.
type envelope struct {
	from    string
	to      []string
	utf8    bool // an address needs SMTPUTF8 (RFC 6531)
	whole   bool // nobody gets it unless everybody does
	message []byte
}

// outcome is what became of one mail on a session, not cleaned yet.
type outcome struct {
	unheard  bool    // the session had ended before the mail began
	failed   error   // why nobody got it
	refusals []error // of each recipient, nil where it was accepted; empty if all were
	laps     laps
}

// send hands over one mail to all of its recipients. After nil the server has it.
func (s *session) send(ctx context.Context, e envelope) error {
	stop := s.until(ctx)
	defer stop()
	e.whole = true
	if err := s.takes(&e); err != nil {
		return err
	}
	return s.hand(&e, nil).failed
}

// takes says why a mail can't be handed to this server, whatever it would reply.
func (s *session) takes(e *envelope) error {
	if e.utf8 && !s.offered("SMTPUTF8") {
		return refused(emailprovider.StepFrom, "an address has letters outside ASCII and the server does not offer SMTPUTF8")
	}
	return nil
}

// hand hands over one mail. If the server takes commands in groups, those of the next mail, if there
// is one, go with the message (RFC 2920, section 3.1): a mail then costs one round trip.
func (s *session) hand(e, next *envelope) outcome {
	o := outcome{laps: startLaps()}
	s.offer(e, &o)
	s.asked = false
	if o.unheard {
		return o
	}
	if o.failed == nil {
		s.out = appendDotted(s.out, e.message)
		if next != nil && s.groups() {
			s.group(next)
		}
		o.failed = at(emailprovider.StepData, s.hear(2, s.dotTimeout))
	}
	o.laps.lap(stepOf(o.failed))
	return o
}

// groups reports whether the server takes commands in groups.
func (s *session) groups() bool { return s.offered("PIPELINING") }

// group puts the commands for a mail in one group. DATA has to be its last (RFC 2920, section 3.1).
func (s *session) group(e *envelope) {
	if s.mails > 0 {
		s.reset()
	}
	s.mailFrom(e)
	for _, to := range e.to {
		s.rcptTo(to)
	}
	s.data()
	s.asked = true
}

// The commands of a mail. A group has them all at once, else each is put when its turn comes.

func (s *session) reset() { s.put("RSET\r\n") }
func (s *session) data()  { s.put("DATA\r\n") }

func (s *session) mailFrom(e *envelope) {
	if e.utf8 {
		s.put("MAIL FROM:<", e.from, "> BODY=8BITMIME SMTPUTF8\r\n")
	} else {
		s.put("MAIL FROM:<", e.from, ">\r\n")
	}
}

func (s *session) rcptTo(to string) { s.put("RCPT TO:<", to, ">\r\n") }

// offer takes a mail to where its message can follow, or says in o why it can't. Of a group it reads
// every reply in order, whatever they are.
func (s *session) offer(e *envelope, o *outcome) {
	if s.groups() && !s.asked {
		s.group(e)
	}
	if s.mails++; s.mails > 1 {
		s.reset()
		if s.hear(2, s.stepTimeout) != nil {
			s.broken, o.unheard = true, true
			return
		}
	}
	s.mailFrom(e)
	if o.failed = at(emailprovider.StepFrom, s.hear(2, s.stepTimeout)); o.failed == nil {
		o.laps.lap(emailprovider.StepFrom)
	}
	s.offerTo(e, o)
	if s.ends(o) {
		return
	}
	s.data()
	err := s.hear(3, s.stepTimeout)
	if s.in.Buffered() > 0 && !s.broken {
		s.broken, err = true, errOutOfStep // else the next reply is taken for that to the message
	}
	switch {
	case o.failed == nil:
		o.failed = at(emailprovider.StepData, err)
	case err == nil:
		// The server waits for a message that nobody may get. RFC 2920, section 3.1 has a lone dot
		// there, but that is a message to a server that has lost count; one whose connection ends
		// before the dot is none, whatever the server (RFC 5321, section 4.1.1.4).
		s.broken = true
	}
}

// offerTo names the recipients.
func (s *session) offerTo(e *envelope, o *outcome) {
	for i, to := range e.to {
		if s.ends(o) {
			return
		}
		s.rcptTo(to)
		switch err := s.hear(2, s.stepTimeout); {
		case err == nil || o.failed != nil:
		case s.broken || e.whole:
			o.failed = at(emailprovider.StepRecipient, err)
		default:
			if o.refusals == nil {
				o.refusals = make([]error, len(e.to))
			}
			o.refusals[i] = at(emailprovider.StepRecipient, err)
		}
	}
	if o.failed == nil && o.refused() {
		o.failed = o.refusals[0]
	}
	if o.failed == nil {
		o.laps.lap(emailprovider.StepRecipient)
	}
}

// ends reports whether nothing more is to be said of a mail, nor heard.
func (s *session) ends(o *outcome) bool { return s.broken || o.failed != nil && !s.asked }

// refused reports whether the server refused every recipient.
func (o *outcome) refused() bool { return o.refusals != nil && !slices.Contains(o.refusals, nil) }

// put adds to what is to be written, unless it went out in a group.
func (s *session) put(parts ...string) {
	if s.asked {
		return
	}
	for _, part := range parts {
		s.out = append(s.out, part...)
	}
}

// appendDotted appends a message as it follows DATA: dots doubled, with the final dot. A CR or LF
// alone becomes a line end too: what one server takes for a line end and another does not is how
// commands are smuggled in a message.
func appendDotted(b, message []byte) []byte {
	for len(message) > 0 {
		var line []byte
		line, message, _ = bytes.Cut(message, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		for more := true; more; {
			var part []byte
			part, line, more = bytes.Cut(line, []byte("\r"))
			if len(part) > 0 && part[0] == '.' {
				b = append(b, '.')
			}
			b = append(b, part...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, ".\r\n"...)
}
