// Package smtptest runs real SMTP servers on loopback: Server, which keeps what it is sent and knows
// which version of a password each session used, and Hostile, which answers by a script.
//
// It does not import testing, so that the demo's inbox can be the same server.
package smtptest

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"time"

	"github.com/emersion/go-smtp"
)

// Mode is how a server does TLS.
type Mode int

// The modes. A Plain server offers AUTH without TLS; a StartTLS server offers it only after.
const (
	Plain Mode = iota
	StartTLS
	ImplicitTLS
)

// Options of a Server. The zero value is a plain server without accounts. It listens on a free
// port of 127.0.0.1.
type Options struct {
	Mode        Mode             // default Plain
	CA          *CA              // issues the certificate; default a new one
	Certificate *tls.Certificate // default CA.Loopback()
	MaxVersion  uint16           // highest TLS version; 0 for the newest
	Mechanisms  []string         // offered; default PLAIN and LOGIN, see Mechanisms
	DemandAuth  bool             // refuse mail from sessions without AUTH
	SMTPUTF8    bool             // offer SMTPUTF8 (RFC 6531)
	Keep        int              // how many mails and attempts to remember; 0 for all
	OnMail      func(Mail)       // called for each accepted mail, before the client is told
}

// Server is a running SMTP server. Its methods may be called at any time from anywhere.
type Server struct {
	*record
	accounts accounts
	options  Options
	listener net.Listener
	smtp     *smtp.Server
	ca       *CA
	served   chan struct{}
}

// Start starts a server. Close ends it.
func Start(o Options) (*Server, error) {
	if o.Mechanisms == nil {
		o.Mechanisms = []string{"PLAIN", "LOGIN"}
	}
	s := &Server{record: newRecord(o.Keep), options: o, ca: o.CA, served: make(chan struct{})}
	config, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.listener = counting{listener, s.record}
	s.smtp = newSMTP(s, config)
	go func() {
		defer close(s.served)
		_ = s.smtp.Serve(s.wrapped(config))
	}()
	return s, nil
}

func newSMTP(s *Server, config *tls.Config) *smtp.Server {
	srv := smtp.NewServer(smtp.BackendFunc(s.newSession))
	srv.Domain = "smtptest.localhost"
	srv.AllowInsecureAuth = s.options.Mode == Plain
	srv.EnableSMTPUTF8 = s.options.SMTPUTF8
	srv.MaxLineLength = 16 << 10 // room for AUTH (RFC 4954, section 4)
	srv.MaxMessageBytes = 16 << 20
	srv.ReadTimeout, srv.WriteTimeout = time.Minute, time.Minute
	srv.ErrorLog = log.New(io.Discard, "", 0)
	if s.options.Mode == StartTLS {
		srv.TLSConfig = config
	}
	return srv
}

func (s *Server) tlsConfig() (*tls.Config, error) {
	if s.options.Mode == Plain {
		return nil, nil
	}
	cert := s.options.Certificate
	if s.ca == nil {
		var err error
		if s.ca, err = NewCA(); err != nil {
			return nil, err
		}
	}
	if cert == nil {
		var err error
		if cert, err = s.ca.Loopback(); err != nil {
			return nil, err
		}
	}
	config := &tls.Config{Certificates: []tls.Certificate{*cert}, MaxVersion: s.options.MaxVersion}
	if s.options.MaxVersion != 0 {
		config.MinVersion = tls.VersionTLS10
	}
	return config, nil
}

func (s *Server) wrapped(config *tls.Config) net.Listener {
	if s.options.Mode == ImplicitTLS {
		return tls.NewListener(s.listener, config)
	}
	return s.listener
}

// Addr is the host:port that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// CA is the authority behind the server's certificate; nil for a Plain server.
func (s *Server) CA() *CA { return s.ca }

// SetPassword gives a user a new password and returns its version: 1 for the user's first. No
// earlier one is good any more. With XOAUTH2 it is the bearer token.
func (s *Server) SetPassword(user, password string) (version int) {
	return s.accounts.add(user, password, true)
}

// AllowPassword gives a user one more password beside those that are good, as mail providers do so
// that a rotation has no gap.
func (s *Server) AllowPassword(user, password string) (version int) {
	return s.accounts.add(user, password, false)
}

// Close ends the server and every session at once.
func (s *Server) Close() error {
	err := s.smtp.Close()
	// Serve may not have taken the listener over yet.
	_ = s.listener.Close()
	<-s.served
	return err
}

// counting counts the connections it accepts.
type counting struct {
	net.Listener
	record *record
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.record.connected(conn.RemoteAddr().String())
	}
	return conn, err
}
