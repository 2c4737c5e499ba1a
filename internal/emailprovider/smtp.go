package emailprovider

import (
	"context"
	"strings"

	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// SMTPSettings is a whole set of SMTP settings as a caller gives them.
type SMTPSettings struct {
	Description   string
	SenderAddress string
	SenderName    string
	ReplyTo       string
	Host          string
	TLS           bool
	User          string
	Auth          AuthSettings
}

// AuthSettings is how a caller wants a provider to authenticate.
type AuthSettings struct {
	Choice  AuthChoice
	Secret  secret.Text // password or client secret; empty for the stored one
	XOAuth2 XOAuth2     // for ChooseXOAuth2
}

// AuthChoice is what a caller says about authentication.
type AuthChoice int

// The choices.
const (
	// ChooseByPassword is plain with a secret; without one, what is stored stays as it is.
	ChooseByPassword AuthChoice = iota
	ChooseNone
	ChoosePlain
	ChooseXOAuth2
)

// idXOAuth2 is the id of incomplete client credentials.
const idXOAuth2 = "MAILKEEP-XOAUTH2"

// AddSMTP adds an SMTP provider, inactive.
func (s *Service) AddSMTP(ctx context.Context, c Caller, in SMTPSettings) (Provider, error) {
	policy, err := s.Policies.Policy(ctx, c.Instance)
	if err != nil {
		return Provider{}, err
	}
	smtp, err := in.check(addSMTPIDs, policy)
	if err != nil {
		return Provider{}, err
	}
	if err := s.mayReach(ctx, in.Auth.at(smtp)); err != nil {
		return Provider{}, err
	}
	p := Provider{Description: in.Description, SMTP: &smtp}
	d := decision{fields: []string{"sender_address", "sender_name", "tls", "host", "user", "reply_to_address", "description"}}
	if err := in.Auth.decide(&p, &d); err != nil {
		return Provider{}, err
	}
	return s.add(ctx, c, p, d)
}

// UpdateSMTP replaces the settings of an SMTP provider. An empty secret keeps the stored one, as
// far as the binding mode lets it.
func (s *Service) UpdateSMTP(ctx context.Context, c Caller, id string, in SMTPSettings) (Provider, error) {
	policy, err := s.Policies.Policy(ctx, c.Instance)
	if err != nil {
		return Provider{}, err
	}
	smtp, err := in.check(updateSMTPIDs, policy)
	if err != nil {
		return Provider{}, err
	}
	if err := s.mayReach(ctx, in.Auth.at(smtp)); err != nil {
		return Provider{}, err
	}
	return s.changeRecent(ctx, c, id, updateSMTP, func(p *Provider) (decision, error) {
		if p.SMTP == nil {
			return decision{}, notFound(updateSMTP.notFound)
		}
		return decideUpdateSMTP(p, in, smtp, s.Binding)
	})
}

// check returns the settings trimmed and checked, without authentication.
func (in SMTPSettings) check(ids smtpIDs, policy Policy) (SMTP, error) {
	smtp := SMTP{
		SenderAddress: in.SenderAddress, SenderName: in.SenderName, ReplyTo: in.ReplyTo,
		Host: in.Host, TLS: in.TLS, User: in.User,
	}
	if err := smtp.normalize(ids, policy); err != nil {
		return SMTP{}, err
	}
	if err := checkDescription(in.Description); err != nil {
		return SMTP{}, err
	}
	if in.Auth.Choice == ChooseXOAuth2 {
		if err := in.Auth.XOAuth2.check(); err != nil {
			return SMTP{}, err
		}
		return smtp, checkSecret("client_secret", in.Auth.Secret)
	}
	return smtp, checkSecret("password", in.Auth.Secret)
}

// at returns the settings with the token endpoint that is wanted, if one is.
func (a AuthSettings) at(smtp SMTP) SMTP {
	if a.Choice == ChooseXOAuth2 {
		smtp.Auth, smtp.XOAuth2 = AuthXOAuth2, a.XOAuth2
	}
	return smtp
}

// decideUpdateSMTP puts the new settings into p and says what becomes of its secret.
func decideUpdateSMTP(p *Provider, in SMTPSettings, smtp SMTP, mode BindingMode) (decision, error) {
	was := p.clone()
	smtp.Auth, smtp.XOAuth2 = p.SMTP.Auth, p.SMTP.XOAuth2
	p.SMTP, p.Description = &smtp, in.Description

	var d decision
	if err := in.Auth.decide(p, &d); err != nil {
		return decision{}, err
	}
	if d.secret == keepSecret && p.Credential.Stored() && movesSecret(was, *p) {
		if mode != Compatible {
			return decision{}, errMoves(was, *p)
		}
		d.kept = true
	}
	d.fields = append(changedFields(was, *p), d.fields...)
	if len(d.fields) > 0 {
		d.event = EventUpdated
	}
	return d, nil
}

// decide puts the wanted authentication into p and the action on its secret into d.
func (a AuthSettings) decide(p *Provider, d *decision) error {
	switch a.Choice {
	case ChooseNone:
		if p.Credential.Stored() {
			d.secret, d.fields = clearSecret, append(d.fields, "none")
		}
		p.SMTP.Auth, p.SMTP.XOAuth2 = AuthNone, XOAuth2{}
	case ChooseXOAuth2:
		return a.decideXOAuth2(p, d)
	case ChoosePlain, ChooseByPassword:
		a.decidePlain(p, d)
	}
	return nil
}

func (a AuthSettings) decidePlain(p *Provider, d *decision) {
	switch {
	case !a.Secret.Empty():
		p.SMTP.Auth, p.SMTP.XOAuth2 = AuthPlain, XOAuth2{}
		d.secret, d.plain, d.fields = setSecret, a.Secret, append(d.fields, "password")
	case a.Choice == ChoosePlain && p.SMTP.Auth == AuthXOAuth2:
		// Plain without a password: the client secret must not be sent as one.
		p.SMTP.Auth, p.SMTP.XOAuth2 = AuthNone, XOAuth2{}
		d.secret, d.fields = clearSecret, append(d.fields, "plain")
	}
}

func (a AuthSettings) decideXOAuth2(p *Provider, d *decision) error {
	stored := p.SMTP.Auth == AuthXOAuth2 && p.Credential.Stored()
	if a.XOAuth2.ClientID == "" || a.Secret.Empty() && !stored {
		return invalid(idXOAuth2, "xoauth2 needs client_credentials with client_id and client_secret")
	}
	p.SMTP.Auth, p.SMTP.XOAuth2 = AuthXOAuth2, a.XOAuth2
	if !a.Secret.Empty() {
		d.secret, d.plain, d.fields = setSecret, a.Secret, append(d.fields, "client_secret")
	}
	return nil
}

// movesSecret reports whether p's secret would go somewhere else than was's, or in plain text.
func movesSecret(was, p Provider) bool {
	return was.binding() != p.binding() || was.SMTP.TLS && !p.SMTP.TLS
}

func errMoves(was, p Provider) error {
	a, b := was.binding(), p.binding()
	moved := changedOf(
		setting{"host", a.Host != b.Host},
		setting{"user", a.User != b.User},
		setting{"token_endpoint", a.TokenEndpoint != b.TokenEndpoint},
		setting{"client_id", a.ClientID != b.ClientID},
		setting{"tls", was.SMTP.TLS && !p.SMTP.TLS},
	)
	return fault.New(fault.FailedPrecondition, idBind, "the stored secret belongs to the present settings; "+
		"a request that changes "+strings.Join(moved, ", ")+" must bring the secret with it")
}

// changedFields names the settings, other than secrets, in which the two differ.
func changedFields(was, p Provider) []string {
	return changedOf(
		setting{"sender_address", was.SMTP.SenderAddress != p.SMTP.SenderAddress},
		setting{"sender_name", was.SMTP.SenderName != p.SMTP.SenderName},
		setting{"tls", was.SMTP.TLS != p.SMTP.TLS},
		setting{"host", was.SMTP.Host != p.SMTP.Host},
		setting{"user", was.SMTP.User != p.SMTP.User},
		setting{"reply_to_address", was.SMTP.ReplyTo != p.SMTP.ReplyTo},
		setting{"xoauth2", !was.SMTP.XOAuth2.equal(p.SMTP.XOAuth2)},
		setting{"description", was.Description != p.Description},
	)
}

// setting is a setting by its name in the API, and whether a change touches it.
type setting struct {
	name    string
	changed bool
}

func changedOf(settings ...setting) (names []string) {
	for _, s := range settings {
		if s.changed {
			names = append(names, s.name)
		}
	}
	return names
}
