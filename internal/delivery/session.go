package delivery

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// quitTimeout is how long the goodbye may take. Nothing depends on it.
const quitTimeout = time.Second

// session is one SMTP session. Each method is one step and leaves the session at the next.
type session struct {
	conn        net.Conn
	in          *bufio.Reader
	host        string // for TLS
	mode        mode   // never eitherTLS
	offers      map[string]string
	clean       *redactor
	stepTimeout time.Duration
	broken      bool // no reply can be trusted to belong to the next command
}

func (t *Transport) newSession(conn net.Conn, host string, mode mode, clean *redactor) *session {
	return &session{
		conn: conn, in: newReplyReader(conn), host: host, mode: mode, clean: clean,
		stepTimeout: t.stepTimeout,
	}
}

// begin bounds what follows by the limit and by ctx, whichever ends first. The returned function
// ends it.
func (s *session) begin(ctx context.Context, limit time.Duration) (done func() bool, err error) {
	conn := s.conn
	// Closing also ends a TLS write that waits for a full buffer to drain.
	done = context.AfterFunc(ctx, func() { _ = closeRaw(conn) })
	return done, conn.SetDeadline(time.Now().Add(limit))
}

// cmd sends a line and returns the reply.
func (s *session) cmd(ctx context.Context, line string) (reply, error) {
	return s.exchange(ctx, s.stepTimeout, []byte(line+"\r\n"))
}

// exchange sends bytes and returns the reply to them.
func (s *session) exchange(ctx context.Context, limit time.Duration, send []byte) (reply, error) {
	done, err := s.begin(ctx, limit)
	defer done()
	if err == nil && len(send) > 0 {
		_, err = s.conn.Write(send)
	}
	var r reply
	if err == nil {
		r, err = readReply(s.in)
	}
	if err != nil || r.code == codeClosing {
		s.broken = true
	}
	return r, err
}

// greeting reads the server's first reply.
func (s *session) greeting(ctx context.Context) error {
	r, err := s.exchange(ctx, s.stepTimeout, nil)
	return at(emailprovider.StepEHLO, r.must(err, 220))
}

// hello says EHLO and notes what is offered; what was offered before is forgotten.
func (s *session) hello(ctx context.Context, name string) error {
	s.offers = nil
	r, err := s.cmd(ctx, "EHLO "+name)
	if err := r.must(err, 250); err != nil {
		return at(emailprovider.StepEHLO, err)
	}
	s.offers = make(map[string]string, len(r.lines))
	for _, line := range r.lines[1:] {
		keyword, params, _ := strings.Cut(line, " ")
		s.offers[strings.ToUpper(keyword)] = params
	}
	return nil
}

// offered reports whether the server offers an extension.
func (s *session) offered(keyword string) bool {
	_, ok := s.offers[keyword]
	return ok
}

// startTLS makes the connection a secure one, or fails.
func (s *session) startTLS(ctx context.Context, config *tls.Config) error {
	if !s.offered("STARTTLS") {
		return refused(emailprovider.StepStartTLS, "the server does not offer STARTTLS")
	}
	r, err := s.cmd(ctx, "STARTTLS")
	if err := r.must(err, 220); err != nil {
		return at(emailprovider.StepStartTLS, err)
	}
	if s.in.Buffered() > 0 {
		s.broken = true
		return refused(emailprovider.StepStartTLS, "the server sent more than its reply before the TLS handshake")
	}
	done, err := s.begin(ctx, s.stepTimeout)
	defer done()
	secured := tls.Client(s.conn, config)
	if err == nil {
		err = secured.Handshake()
	}
	if err != nil {
		s.broken = true
		return at(emailprovider.StepStartTLS, err)
	}
	s.conn, s.in = secured, newReplyReader(secured)
	return nil
}

// tlsState returns the state of a secure connection, else nil.
func (s *session) tlsState() *tls.ConnectionState {
	conn, ok := s.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	state := conn.ConnectionState()
	return &state
}

// end closes the session, with a QUIT if the server still listens. It can't fail.
func (s *session) end(ctx context.Context) {
	if !s.broken && ctx.Err() == nil {
		_, _ = s.exchange(ctx, quitTimeout, []byte("QUIT\r\n"))
	}
	_ = closeRaw(s.conn)
}

// closeRaw closes the TCP connection. Closing a TLS connection first writes an alert, for which it
// waits up to five seconds.
func closeRaw(conn net.Conn) error {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	return conn.Close()
}
