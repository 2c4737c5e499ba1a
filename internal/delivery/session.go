package delivery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// quitTimeout is how long the goodbye may take. Nothing depends on it.
const quitTimeout = time.Second

const (
	// maxWrite is how much is written within one timeout (RFC 5321, section 4.5.3.2.5).
	maxWrite = 64 << 10
	// maxKeptBuffer is how much room for writing a session keeps between mails.
	maxKeptBuffer = 128 << 10
)

// session is one SMTP session. Each method is one step and leaves the session at the next.
type session struct {
	conn        net.Conn
	in          *bufio.Reader
	host        string // for TLS, as the roots
	roots       *x509.CertPool
	mode        mode // never eitherTLS
	offers      map[string]string
	clean       *redactor
	stepTimeout time.Duration
	dotTimeout  time.Duration
	broken      bool // no reply can be trusted to belong to the next command

	out   []byte // to be written before the next reply is read
	mails int    // that were begun
	asked bool   // the next mail's commands are in out, or have been written

	began time.Time                // when it was dialled
	setup []emailprovider.StepTime // of opening it, until a mail has taken them for its own
}

func (t *Transport) newSession(conn net.Conn, host string, roots *x509.CertPool, mode mode, clean *redactor) *session {
	return &session{
		conn: conn, in: newReplyReader(conn), host: host, roots: roots, mode: mode, clean: clean,
		stepTimeout: t.stepTimeout, dotTimeout: t.dotTimeout,
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

// hear writes what is to be written and returns nil if the reply to it, or the next of several, begins
// with the wanted digit. After anything but a proper refusal the session is broken.
func (s *session) hear(digit int, limit time.Duration) error {
	r, err := s.next(digit, limit)
	return s.judge(r, err, digit)
}

// judge is what hear makes of a reply.
func (s *session) judge(r reply, err error, digit int) error {
	switch {
	case err != nil:
		s.broken = true
		return err
	case r.code/100 == digit:
		return nil
	case r.code < 400 || r.code == codeClosing:
		s.broken = true
	}
	return &replyError{r}
}

// next returns the next reply, without text if it begins with the digit. The limit begins when there
// is something to wait for.
func (s *session) next(digit int, limit time.Duration) (reply, error) {
	if err := s.flush(); err != nil {
		return reply{}, err
	}
	here, _ := s.in.Peek(s.in.Buffered())
	if bytes.IndexByte(here, '\n') < 0 {
		if err := s.conn.SetDeadline(time.Now().Add(limit)); err != nil {
			return reply{}, err
		}
	}
	return readUnless(s.in, digit)
}

// flush writes what is to be written. Each part of a long message has a step's time.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	for part := range slices.Chunk(s.out, maxWrite) {
		if err := s.conn.SetDeadline(time.Now().Add(s.stepTimeout)); err != nil {
			return err
		}
		if _, err := s.conn.Write(part); err != nil {
			return err
		}
	}
	if s.out = s.out[:0]; cap(s.out) > maxKeptBuffer {
		s.out = nil
	}
	return nil
}

// until lets ctx end the session from now on. The returned function ends that, and reports whether ctx
// has left the session alone.
func (s *session) until(ctx context.Context) (stop func() bool) {
	conn := s.conn
	return context.AfterFunc(ctx, func() { _ = closeRaw(conn) })
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
		watching(ctx).heard(r)
	}
	if err != nil || r.code == codeClosing {
		s.broken = true
	}
	return r, err
}

// greeting reads the server's first reply.
func (s *session) greeting(ctx context.Context) (err error) {
	defer watching(ctx).begin(ctx, seenGreeting)(&err)
	r, err := s.exchange(ctx, s.stepTimeout, nil)
	return at(emailprovider.StepEHLO, r.must(err, 220))
}

// hello says EHLO and notes what is offered; what was offered before is forgotten.
func (s *session) hello(ctx context.Context, name string) (err error) {
	defer watching(ctx).begin(ctx, seenEHLO)(&err)
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
	watching(ctx).offered(r, s.offers["AUTH"])
	return nil
}

// offered reports whether the server offers an extension.
func (s *session) offered(keyword string) bool {
	_, ok := s.offers[keyword]
	return ok
}

// startTLS makes the connection a secure one, or fails.
func (s *session) startTLS(ctx context.Context, config *tls.Config) (err error) {
	defer watching(ctx).begin(ctx, seenStartTLS)(&err)
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
		watching(ctx).shookHands(secured)
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
