package emailprovider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/fault"
)

// stepIDs are the ids that failures of each step are reported under.
var stepIDs = map[Step]string{
	StepDial:      "EMAIL-skwos",
	StepTLS:       "EMAIL-sl39s",
	StepEHLO:      "EMAIL-skwi4",
	StepStartTLS:  "EMAIL-guvsQ",
	StepToken:     "EMAIL-av88SB",
	StepAuth:      "EMAIL-s9kfs",
	StepFrom:      "EMAIL-s5is5",
	StepRecipient: "EMAIL-s6is6",
	StepData:      "MAILKEEP-DATA",
	StepPost:      "MAILKEEP-POST",
}

// TestStored sends a test mail through a stored SMTP provider, active or not.
func (s *Service) TestStored(ctx context.Context, c Caller, id, receiver string) error {
	if id == "" {
		return invalid(testStored.noID, "id is empty")
	}
	if err := checkReceiver("SMTP-99yth", receiver); err != nil {
		return err
	}
	p, err := s.storedSMTP(ctx, c.Instance, id, testStored.notFound)
	if err != nil {
		return err
	}
	route, err := s.Route(p)
	if err != nil {
		return err
	}
	return s.sendTest(ctx, route, receiver)
}

// TestValues sends a test mail through settings that are not stored. If id is not empty and the
// settings have no secret, the stored secret of that provider is used, but only towards where it
// belongs.
func (s *Service) TestValues(ctx context.Context, c Caller, id string, in SMTPSettings, receiver string) error {
	if err := checkReceiver("SMTP-p9uy", receiver); err != nil {
		return err
	}
	policy, err := s.Policies.Policy(ctx, c.Instance)
	if err != nil {
		return err
	}
	smtp, err := in.check(addSMTPIDs, policy)
	if err != nil {
		return err
	}
	var stored Provider
	if id != "" {
		if stored, err = s.storedSMTP(ctx, c.Instance, id, testValues.notFound); err != nil {
			return err
		}
	}
	route := Route{Instance: c.Instance, SMTP: &smtp, CA: stored.CA}
	if err := s.chooseTestSecret(&route, in, stored); err != nil {
		return err
	}
	return s.sendTest(ctx, route, receiver)
}

// chooseTestSecret puts authentication and secret into the route; stored is zero without an id.
func (s *Service) chooseTestSecret(r *Route, in SMTPSettings, stored Provider) error {
	switch {
	case in.Auth.Choice == ChooseNone:
		return nil
	case in.Auth.Choice == ChooseXOAuth2:
		r.SMTP.Auth, r.SMTP.XOAuth2 = AuthXOAuth2, in.Auth.XOAuth2
	case in.Auth.Choice == ChooseByPassword && in.Auth.Secret.Empty() && stored.ID != "":
		r.SMTP.Auth, r.SMTP.XOAuth2 = stored.SMTP.Auth, stored.SMTP.XOAuth2
	case in.Auth.Choice == ChooseByPassword && in.Auth.Secret.Empty() && in.User == "":
		return nil
	default:
		r.SMTP.Auth = AuthPlain
	}
	switch {
	case !in.Auth.Secret.Empty():
		r.Secret = in.Auth.Secret
		return nil
	case stored.ID != "":
		return s.useStoredSecret(r, stored)
	case r.SMTP.Auth == AuthXOAuth2:
		return invalid("SMTP-9OP96s", "xoauth2 needs a client_secret, or the id of a provider that has one")
	default:
		return invalid("SMTP-p9kj", "plain needs a password, or the id of a provider that has one")
	}
}

// useStoredSecret lends the stored secret to the route if the route is where it belongs. Everything
// that the secret would be shown to must be as stored, plain text or TLS included.
func (s *Service) useStoredSecret(r *Route, stored Provider) (err error) {
	if !stored.Credential.Stored() {
		r.SMTP.Auth = AuthNone // as a real mail through it would go
		return nil
	}
	wanted := stored
	wanted.SMTP = r.SMTP
	if stored.SMTP.Auth != r.SMTP.Auth || wanted.binding() != stored.binding() || stored.SMTP.TLS != r.SMTP.TLS || r.CA != stored.CA {
		return fault.New(fault.FailedPrecondition, idBind, "the stored secret is only used with the stored host, "+
			"user, tls, ca_pem and kind of authentication; bring the secret in the request to test other settings")
	}
	r.CredentialVersion = stored.Credential.Version
	r.ProviderID = stored.ID
	r.Secret, err = s.open(stored)
	return err
}

func (s *Service) storedSMTP(ctx context.Context, instance, id, idNotFound string) (Provider, error) {
	p, err := s.Store.Provider(ctx, instance, id)
	if errors.Is(err, ErrNotFound) || err == nil && p.SMTP == nil {
		return Provider{}, notFound(idNotFound)
	}
	return p, err
}

func (s *Service) sendTest(ctx context.Context, via Route, receiver string) error {
	if err := s.mayReach(ctx, *via.SMTP); err != nil {
		return err
	}
	_, domain, _ := address.Split(via.SMTP.SenderAddress)
	err := s.Mailer.Deliver(ctx, via, Mail{
		MessageID:  rand.Text() + "@" + domain,
		Date:       s.Now(),
		To:         []string{receiver},
		Recipients: []string{receiver},
		Subject:    "Test email",
		Text: "This is a test mail. It shows that mails can be sent through the email provider " +
			"with the settings that were tested.\r\n",
	})
	return deliveryFault(via, err)
}

// deliveryFault turns a failed delivery into what the caller is told.
func deliveryFault(via Route, err error) error {
	var failed *DeliveryError
	if !errors.As(err, &failed) {
		return err
	}
	return failed.fault(via, "sending")
}

// fault returns what the caller is told of a failure of what was done, such as sending.
func (e *DeliveryError) fault(via Route, what string) *fault.Error {
	id := stepIDs[e.Step]
	if e.Step == StepAuth && via.SMTP.Auth == AuthXOAuth2 {
		id = stepIDs[StepToken]
	}
	kind := fault.FailedPrecondition
	if e.Temporary {
		kind = fault.Unavailable
	}
	said := e.Text
	if e.Code != 0 {
		said = fmt.Sprintf("%d %s", e.Code, e.Text)
	}
	return fault.Newf(kind, id, "%s failed at step %s: %s", what, e.Step, said)
}

func checkReceiver(missing, receiver string) error {
	if strings.TrimSpace(receiver) == "" {
		return invalid(missing, "receiver_address is empty")
	}
	if err := address.Check(receiver); err != nil {
		return invalid(idValue, "receiver_address "+err.Error())
	}
	return nil
}
