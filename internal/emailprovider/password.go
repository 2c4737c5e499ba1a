package emailprovider

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// SetPassword stores a new password: the next credential version, even if it is the same password.
// It is verified as Config.VerifyCompatible says, and a failure that is let pass is logged.
func (s *Service) SetPassword(ctx context.Context, c Caller, id string, plain secret.Text) (Provider, error) {
	if err := checkPassword(plain); err != nil {
		return Provider{}, err
	}
	if s.VerifyCompatible == VerifyOff { // else the server that is asked must be the present one
		return s.changeRecent(ctx, c, id, password, func(p *Provider) (decision, error) {
			return decidePassword(p, plain, nil, password.notFound)
		})
	}
	t := s.newTrial(s.VerifyCompatible, nil)
	p, err := s.change(ctx, c, id, password, func(p *Provider) (decision, error) {
		d, err := decidePassword(p, plain, nil, password.notFound)
		if err != nil {
			return decision{}, err
		}
		if t.mode == VerifyEnforce && p.SMTP.User == "" {
			return decision{}, errNoUser
		}
		return d, t.pass(ctx, *p, plain)
	})
	if failed := t.report.Failed; err == nil && failed != nil {
		s.Log.Warn("a password was stored that could not be verified", "instance", p.Instance, "provider", p.ID,
			"credential_version", p.Credential.Version, "step", failed.Step, "code", failed.Code, "request_id", c.Actor.RequestID)
	}
	return p, err
}

// Rotation is a new password, and how it is verified before it is stored.
type Rotation struct {
	Password secret.Text
	User     *string // nil for the stored one
	Verify   VerifyMode
}

func (in Rotation) check() error {
	if in.User != nil {
		if err := checkCredential("user", *in.User); err != nil {
			return err
		}
	}
	return checkPassword(in.Password)
}

// RotatePassword stores a new password, the next credential version, once the mail server has
// accepted it at the very host and with the very user it is stored for. If it does not, the error
// is a *VerificationError, or in the mode VerifyWarn there is none. The report is the zero one if
// nothing was verified. Progress, unless nil, gets each step; they begin anew if the provider was
// changed meanwhile.
func (s *Service) RotatePassword(ctx context.Context, c Caller, id string, in Rotation, progress func(StepReport)) (Provider, Report, error) {
	if err := in.check(); err != nil {
		return Provider{}, Report{}, err
	}
	t := s.newTrial(in.Verify, progress)
	p, err := s.change(ctx, c, id, rotate, func(p *Provider) (decision, error) {
		return t.decide(ctx, p, EventPasswordChanged, in.Password, in.User)
	})
	return p, t.report, err
}

// RollbackPassword brings back the password before the present one, with its user, as the next
// credential version; the present one becomes the one before. It is verified as by RotatePassword.
func (s *Service) RollbackPassword(ctx context.Context, c Caller, id string, mode VerifyMode, progress func(StepReport)) (Provider, Report, error) {
	t := s.newTrial(mode, progress)
	t.refusal = "the previous password was not brought back"
	p, err := s.change(ctx, c, id, rotate, func(p *Provider) (decision, error) {
		plain, err := s.openPrevious(*p)
		if err != nil {
			return decision{}, err
		}
		return t.decide(ctx, p, EventPasswordRolledBack, plain, &p.Previous.User)
	})
	return p, t.report, err
}

func (s *Service) newTrial(mode VerifyMode, progress func(StepReport)) *trial {
	return &trial{mailer: s.Mailer, mode: mode, progress: progress, refusal: "the new password was not stored"}
}

// decide is decidePassword for a password that must be one to log in with, and passes.
func (t *trial) decide(ctx context.Context, p *Provider, event EventType, plain secret.Text, user *string) (decision, error) {
	d, err := decidePassword(p, plain, user, rotate.notFound)
	if err != nil {
		return decision{}, err
	}
	if p.SMTP.User == "" {
		return decision{}, errNoUser
	}
	d.event = event
	return d, t.pass(ctx, *p, plain)
}

// passwordField is what a new password sets; nobody changes it.
var passwordField = []string{"password"}

// decidePassword gives p a password, and a user unless it is nil.
func decidePassword(p *Provider, plain secret.Text, user *string, idNotFound string) (decision, error) {
	switch {
	case p.SMTP == nil:
		return decision{}, notFound(idNotFound)
	case p.SMTP.Auth == AuthXOAuth2:
		return decision{}, errNotPlain
	}
	d := decision{event: EventPasswordChanged, fields: passwordField, secret: setSecret, plain: plain}
	if user != nil && *user != p.SMTP.User {
		p.SMTP.User, d.fields = *user, append(d.fields, "user")
	}
	p.SMTP.Auth = AuthPlain
	return d, nil
}

func checkPassword(plain secret.Text) error {
	if plain.Empty() {
		return invalid("MAILKEEP-PASSWORD", "password is empty")
	}
	return checkSecret("password", plain)
}
