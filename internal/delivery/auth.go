package delivery

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/wneessen/go-mail/smtp"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	// maxAuthCommand is the longest AUTH command that carries an initial response: 512 octets with
	// CRLF (RFC 4954, section 4). A longer response waits to be asked for.
	maxAuthCommand = 510
	// maxAuthRounds is more than any mechanism needs.
	maxAuthRounds = 8
)

// needsLogin reports whether the route authenticates. A user without a password does not.
func needsLogin(via emailprovider.Route) (bool, error) {
	if via.SMTP.Auth == emailprovider.AuthNone {
		return false, nil
	}
	if via.SMTP.User == "" {
		return false, refused(emailprovider.StepAuth, "the provider authenticates but has no user")
	}
	if via.Secret.Empty() {
		return false, nil
	}
	if strings.ContainsAny(via.SMTP.User+via.Secret.Reveal(), "\x00\r\n") {
		return false, refused(emailprovider.StepAuth, "user or password has a NUL or a line break")
	}
	return true, nil
}

// authenticate logs the session in with the best mechanism that the server offers.
func (t *Transport) authenticate(ctx context.Context, s *session, via emailprovider.Route) error {
	offered := strings.Fields(strings.ToUpper(s.offers["AUTH"]))
	if via.SMTP.Auth == emailprovider.AuthXOAuth2 {
		if !slices.Contains(offered, "XOAUTH2") {
			return noMechanism(offered)
		}
		return t.loginWithToken(ctx, s, via)
	}
	mechanism := s.passwordMechanism(offered, via.SMTP.User, via.Secret.Reveal())
	if mechanism == nil {
		return noMechanism(offered)
	}
	return s.login(ctx, mechanism)
}

// loginWithToken logs the session in with a bearer token. If the server refuses one that was kept, which
// may have been revoked, it gets another, once.
func (t *Transport) loginWithToken(ctx context.Context, s *session, via emailprovider.Route) error {
	bearer, err := t.tryToken(ctx, s, via)
	if !refusesLogin(err) || !bearer.Kept || s.broken {
		return err
	}
	watching(ctx).goOn()
	_, err = t.tryToken(ctx, s, via)
	return err
}

// tryToken logs in once. A token that the server refuses is not kept any longer.
func (t *Transport) tryToken(ctx context.Context, s *session, via emailprovider.Route) (Bearer, error) {
	bearer, err := t.token(ctx, via, s.clean)
	if err != nil {
		return bearer, err
	}
	err = s.login(ctx, smtp.XOAuth2Auth(via.SMTP.User, bearer.Token.Reveal()))
	if cache, keeps := t.tokens.(*TokenCache); keeps && refusesLogin(err) {
		cache.Refused(via, bearer.Token)
	}
	return bearer, err
}

// refusesLogin reports whether the server has said for good that it does not take what it was shown.
func refusesLogin(err error) bool {
	said, ok := errors.AsType[*replyError](err)
	return ok && said.code/100 == 5
}

// token returns a bearer token that can be sent, noted for cleaning.
func (t *Transport) token(ctx context.Context, via emailprovider.Route, clean *redactor) (bearer Bearer, err error) {
	defer watching(ctx).begin(ctx, seenToken)(&err)
	if bearer, err = t.tokens.Token(ctx, via); err != nil {
		return Bearer{}, at(emailprovider.StepToken, err)
	}
	clean.add(bearer.Token.Reveal())
	if strings.ContainsFunc(via.SMTP.User+bearer.Token.Reveal(), isControl) {
		return Bearer{}, refused(emailprovider.StepToken, "user or token has a control character")
	}
	return bearer, nil
}

// passwordMechanism returns the best offered mechanism, or nil. PLAIN comes first: it works with
// passwords that are stored hashed, and with bytes that SCRAM's string preparation would change. It
// is as safe as the connection, which is TLS, loopback, or the operator's own decision.
func (s *session) passwordMechanism(offered []string, user, password string) smtp.Auth {
	has := func(name string) bool { return slices.Contains(offered, name) }
	bound := s.tlsState()
	switch {
	case has("PLAIN"):
		return smtp.PlainAuth("", user, password, s.host, true)
	case has("LOGIN"):
		return smtp.LoginAuth(user, password, s.host, true)
	case has("SCRAM-SHA-256-PLUS") && bound != nil:
		return &scram{Auth: smtp.ScramSHA256PlusAuth(user, password, bound)}
	case has("SCRAM-SHA-256"):
		return &scram{Auth: smtp.ScramSHA256Auth(user, password)}
	case has("SCRAM-SHA-1-PLUS") && bound != nil:
		return &scram{Auth: smtp.ScramSHA1PlusAuth(user, password, bound)}
	case has("SCRAM-SHA-1"):
		return &scram{Auth: smtp.ScramSHA1Auth(user, password)}
	case has("CRAM-MD5"):
		return smtp.CRAMMD5Auth(user, password)
	}
	return nil
}

func noMechanism(offered []string) error {
	if len(offered) == 0 {
		return refused(emailprovider.StepAuth, "the server does not offer AUTH")
	}
	return refused(emailprovider.StepAuth, "the server offers no AUTH mechanism that fits; it offers "+strings.Join(offered, " "))
}

// login logs the session in.
func (s *session) login(ctx context.Context, mechanism smtp.Auth) (err error) {
	defer watching(ctx).begin(ctx, seenAuth)(&err)
	return at(emailprovider.StepAuth, s.exchangeLogin(ctx, mechanism))
}

// exchangeLogin runs the exchange of RFC 4954. Whatever is sent is noted for cleaning, since servers
// repeat what they don't understand.
func (s *session) exchangeLogin(ctx context.Context, mechanism smtp.Auth) error {
	name, initial, err := mechanism.Start(&smtp.ServerInfo{Name: s.host, TLS: s.tlsState() != nil})
	if err != nil {
		return err
	}
	watching(ctx).loggingIn(name)
	command := "AUTH " + name
	if initial != nil {
		if encoded := s.encode(initial); len(command)+1+len(encoded) <= maxAuthCommand {
			command, initial = command+" "+encoded, nil
		}
	}
	r, err := s.cmd(ctx, command)
	for round := 0; err == nil && r.code == 334; round++ {
		response := initial
		if response == nil {
			if response, err = s.respond(mechanism, r, round); err != nil {
				s.broken = true // the server waits for a response, not for QUIT
				return &failure{emailprovider.StepAuth, err, true}
			}
		}
		initial = nil // it is sent once
		r, err = s.cmd(ctx, s.encode(response))
	}
	if err := r.must(err, 235); err != nil {
		return err
	}
	if _, err = mechanism.Next(nil, false); err != nil {
		return &failure{emailprovider.StepAuth, err, true}
	}
	return nil
}

func (s *session) respond(mechanism smtp.Auth, r reply, round int) ([]byte, error) {
	challenge, err := base64.StdEncoding.DecodeString(r.text())
	if err != nil || round >= maxAuthRounds {
		return nil, errors.New("the server does not keep to the AUTH protocol")
	}
	return mechanism.Next(challenge, true)
}

// encode returns what goes over the wire for a response, and notes it.
func (s *session) encode(response []byte) string {
	encoded := base64.StdEncoding.EncodeToString(response)
	s.clean.add(encoded)
	return encoded
}
