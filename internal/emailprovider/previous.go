package emailprovider

import (
	"context"
	"time"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// Usable reports whether there is one that can still be brought back.
func (p Previous) Usable(now time.Time) bool { return p.Stored() && now.Before(p.Until) }

// DestroyPrevious destroys the previous passwords of all instances whose time is up, and returns
// how many.
func (s *Service) DestroyPrevious(ctx context.Context) (int, error) {
	return s.Store.DestroyPrevious(ctx, s.Now().UTC())
}

// former returns p, which has a previous password, as it was with that.
func (p Provider) former() Provider {
	p = p.clone()
	p.Credential, p.SMTP.User, p.SMTP.Auth = p.Previous.Credential, p.Previous.User, AuthPlain
	return p
}

// openPrevious returns the password that can be brought back.
func (s *Service) openPrevious(p Provider) (secret.Text, error) {
	switch {
	case p.SMTP == nil:
		return secret.Text{}, notFound(rotate.notFound)
	case !p.Previous.Usable(s.Now()):
		return secret.Text{}, errNoPrevious
	}
	plain, err := s.open(p.former())
	if err != nil {
		return secret.Text{}, errNoPrevious.Because(err)
	}
	return plain, nil
}

// keepPrevious returns the password that can be brought back once was has become next.
func (s *Service) keepPrevious(was, next Provider, d decision) Previous {
	if !staysPut(was, next) {
		return Previous{}
	}
	kept := was.Previous
	if d.secret == setSecret && s.replaces(was, next, d.plain) {
		kept = Previous{was.Credential, was.SMTP.User, next.Changed.Add(s.KeepPrevious)}
	}
	if !kept.Usable(next.Changed) {
		return Previous{}
	}
	return kept
}

// staysPut reports whether a password that was's could be next's: it would go to the same host, and
// not in plain text where it went over TLS.
func staysPut(was, next Provider) bool {
	return was.SMTP != nil && was.SMTP.Auth == AuthPlain && next.SMTP.Auth == AuthPlain &&
		was.binding().Host == next.binding().Host && (next.SMTP.TLS || !was.SMTP.TLS)
}

// replaces reports whether a password is another one than was's, which must be one to go back to:
// callers that send the same password with every update must not push out the one before.
func (s *Service) replaces(was, next Provider, plain secret.Text) bool {
	former, err := s.open(was)
	return err == nil && !former.Empty() && (former.Reveal() != plain.Reveal() || was.SMTP.User != next.SMTP.User)
}
