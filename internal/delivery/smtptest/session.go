package smtptest

import (
	"crypto/tls"
	"io"
	"slices"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// session is one SMTP session as go-smtp drives it.
type session struct {
	server  *Server
	conn    *smtp.Conn
	user    string
	version int
	from    string
	to      []string
	ended   bool // go-smtp is about to reset the session after a message, without having been asked
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{server: s, conn: c}, nil
}

// AuthMechanisms implements smtp.AuthSession.
func (s *session) AuthMechanisms() []string { return s.server.options.Mechanisms }

// Auth implements smtp.AuthSession.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	start, known := mechanisms[mechanism]
	if !known || !slices.Contains(s.server.options.Mechanisms, mechanism) {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return start(s.verifier(mechanism), s.tlsState), nil
}

// verifier returns what a mechanism asks whether a user has proved to know the password.
func (s *session) verifier(mechanism string) verify {
	return func(user string, proves func(password string) bool) error {
		version, good := s.server.accounts.find(user, proves)
		_, overTLS := s.conn.TLSConnectionState()
		s.server.addAttempt(Attempt{
			Remote: s.remote(), Session: s.number(), Mechanism: mechanism, User: user,
			Version: version, OK: good, TLS: overTLS, At: time.Now(),
		})
		if !good {
			return smtp.ErrAuthFailed
		}
		s.user, s.version = user, version
		return nil
	}
}

func (s *session) tlsState() *tls.ConnectionState {
	state, ok := s.conn.TLSConnectionState()
	if !ok {
		return nil
	}
	return &state
}

func (s *session) remote() string { return s.conn.Conn().RemoteAddr().String() }

func (s *session) number() int { return s.server.record.number(s.remote()) }

// Mail implements smtp.Session.
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.options.DemandAuth && s.user == "" {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	s.from = from
	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

// Data implements smtp.Session.
func (s *session) Data(r io.Reader) error {
	s.ended = true
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, overTLS := s.conn.TLSConnectionState()
	m := Mail{
		Remote: s.remote(), Session: s.number(), EHLO: s.conn.Hostname(), From: s.from, To: slices.Clone(s.to), Data: data,
		User: s.user, Version: s.version, TLS: overTLS, At: time.Now(),
	}
	if s.server.options.OnMail != nil {
		s.server.options.OnMail(m)
	}
	s.server.addMail(m)
	return nil
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.from, s.to = "", nil
	if !s.ended {
		s.server.wasReset()
	}
	s.ended = false
}

// Logout implements smtp.Session.
func (s *session) Logout() error { return nil }
