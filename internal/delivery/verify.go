package delivery

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Verify implements emailprovider.Mailer. It goes the way of a delivery, but on a connection of its
// own. A webhook can't be verified without a mail.
func (t *Transport) Verify(
	ctx context.Context, via emailprovider.Route, recipient string, progress func(emailprovider.StepReport),
) emailprovider.Report {
	if via.SMTP == nil {
		return emailprovider.Report{Failed: &emailprovider.DeliveryError{
			Step: emailprovider.StepPost, Text: "a webhook can't be verified without sending it a mail",
		}}
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	w := &watch{clean: newRedactor(via.Secret), progress: progress}
	w.start("")
	return w.finish(ctx, t.verify(context.WithValue(ctx, watchKey{}, w), via, recipient, w.clean))
}

func (t *Transport) verify(ctx context.Context, via emailprovider.Route, recipient string, clean *redactor) error {
	var path envelope
	if recipient != "" {
		var err error
		if path, err = t.compose(*via.SMTP, trial(recipient)); err != nil {
			return err
		}
	}
	s, err := t.open(ctx, via, clean)
	if err != nil {
		return err
	}
	defer s.end(ctx)
	if recipient == "" {
		return nil
	}
	return s.try(ctx, &path)
}

// trial is a mail for its envelope only; it is not sent.
func trial(recipient string) emailprovider.Mail {
	return emailprovider.Mail{MessageID: "trial@localhost", To: []string{recipient}, Recipients: []string{recipient}}
}

// try has the server look at sender and recipient, and forget them.
func (s *session) try(ctx context.Context, e *envelope) error {
	stop := s.until(ctx)
	defer stop()
	if err := s.takes(e); err != nil {
		return err
	}
	s.mailFrom(e)
	err := s.tell(ctx, seenFrom, emailprovider.StepFrom)
	for _, to := range e.to {
		if err == nil {
			s.rcptTo(to)
			err = s.tell(ctx, seenRecipient, emailprovider.StepRecipient)
		}
	}
	if err == nil {
		s.reset()
		err = s.tell(ctx, seenReset, emailprovider.StepRecipient)
	}
	return err
}

// tell sends what is to be written as a step of its own.
func (s *session) tell(ctx context.Context, name string, step emailprovider.Step) (err error) {
	defer watching(ctx).begin(ctx, name)(&err)
	r, err := s.next(0, s.stepTimeout)
	watching(ctx).heard(r)
	return at(step, s.judge(r, err, 2))
}
