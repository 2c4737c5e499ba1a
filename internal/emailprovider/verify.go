package emailprovider

import (
	"cmp"
	"context"
	"strings"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// VerifyValues are settings to verify that are not stored.
type VerifyValues struct {
	Host          string // host:port
	TLS           bool
	User          string
	Password      secret.Text // empty for the stored one, or none
	SenderAddress string      // for a recipient; empty for the stored one, or none
	CA            string      // as Provider.CA; empty for the stored one
}

// VerifyStored reports whether the mail server accepts a stored SMTP provider, or values in place
// of its own; the stored secret goes only where it belongs. With a recipient it says whether the
// server would take a mail to it. Nothing is sent.
func (s *Service) VerifyStored(ctx context.Context, c Caller, id string, in *VerifyValues, recipient string) (Report, error) {
	if err := checkRecipient(recipient); err != nil {
		return Report{}, err
	}
	stored, err := s.storedSMTP(ctx, c.Instance, id, idQuery)
	if err != nil {
		return Report{}, err
	}
	var route Route
	if in == nil {
		route, err = s.Route(stored)
	} else {
		route, err = s.routeOf(ctx, c, *in, stored)
	}
	if err != nil {
		return Report{}, err
	}
	return s.verify(ctx, route, recipient)
}

// VerifyNew is VerifyStored for values alone.
func (s *Service) VerifyNew(ctx context.Context, c Caller, in VerifyValues, recipient string) (Report, error) {
	if err := checkRecipient(recipient); err != nil {
		return Report{}, err
	}
	if in.User != "" && in.Password.Empty() {
		return Report{}, invalid(idValue, "password is empty, and a user needs one")
	}
	route, err := s.routeOf(ctx, c, in, Provider{})
	if err != nil {
		return Report{}, err
	}
	if recipient != "" && route.SMTP.SenderAddress == "" {
		return Report{}, invalid(idValue, "sender_address is empty, and a recipient needs a sender")
	}
	return s.verify(ctx, route, recipient)
}

func (s *Service) verify(ctx context.Context, via Route, recipient string) (Report, error) {
	if err := s.mayReach(ctx, *via.SMTP); err != nil {
		return Report{}, err
	}
	return s.Mailer.Verify(ctx, via, recipient, nil), nil
}

// routeOf returns the route of values; stored, unless zero, lends what they leave empty.
func (s *Service) routeOf(ctx context.Context, c Caller, in VerifyValues, stored Provider) (Route, error) {
	policy, err := s.Policies.Policy(ctx, c.Instance)
	if err != nil {
		return Route{}, err
	}
	smtp, err := in.check(policy)
	if err != nil {
		return Route{}, err
	}
	if smtp.SenderAddress == "" && stored.SMTP != nil {
		smtp.SenderAddress = stored.SMTP.SenderAddress
	}
	ca, err := checkCA(in.CA)
	if err != nil {
		return Route{}, err
	}
	route := Route{Instance: c.Instance, SMTP: &smtp, CA: cmp.Or(ca, stored.CA)}
	return route, s.chooseTestSecret(&route, SMTPSettings{User: in.User, Auth: AuthSettings{Secret: in.Password}}, stored)
}

// check returns the values trimmed and checked, without authentication.
func (in VerifyValues) check(policy Policy) (SMTP, error) {
	smtp := SMTP{
		Host: strings.TrimSpace(in.Host), TLS: in.TLS, User: in.User, SenderAddress: strings.TrimSpace(in.SenderAddress),
	}
	if err := checkHostPort(smtp.Host); err != "" {
		return SMTP{}, invalid(idValue, "host "+err)
	}
	if smtp.SenderAddress != "" {
		if err := policy.checkSender(smtp.SenderAddress); err != nil {
			return SMTP{}, err
		}
	}
	if err := checkCredential("user", smtp.User); err != nil {
		return SMTP{}, err
	}
	return smtp, checkSecret("password", in.Password)
}

func checkRecipient(recipient string) error {
	if recipient == "" {
		return nil
	}
	if err := address.Check(recipient); err != nil {
		return invalid(idValue, "recipient "+err.Error())
	}
	return nil
}
