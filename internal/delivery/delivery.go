// Package delivery hands mails to SMTP servers and webhooks. It is the one way that mails leave, test
// mails included.
//
// A delivery is dial, tls, ehlo, auth, send, each a step of its own on a session, so that a failure
// names its step. The server is not trusted: what it says is bounded while it is read, and cleaned
// of credentials, and of what it repeats of the mail, before anybody sees it. From the moment the server has accepted the message, the
// mail is delivered; what happens to QUIT is nobody's business.
//
// Deliver and Verify have a session of their own, with somebody waiting. Carry has time, and keeps its
// sessions in a pool between mails.
package delivery

import (
	"cmp"
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Defaults of Options. A silent server is given up on within ten seconds, the QUIT included.
const (
	DefaultStepTimeout = 5 * time.Second
	DefaultTimeout     = 9 * time.Second
)

// Defaults of Options for Carry, which nobody waits for.
const (
	DefaultCarryStepTimeout = 30 * time.Second
	DefaultFinalDotTimeout  = 10 * time.Minute // RFC 5321, section 4.5.3.2.6
	DefaultSessions         = 4
	DefaultIdleTimeout      = 30 * time.Second
)

// Dialer opens the TCP connections. If it refuses to, its error may be (or wrap) a
// *emailprovider.DeliveryError, which is then the result of the delivery.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// TokenSource returns the bearer token for a route that authenticates with XOAUTH2. Its error may be
// a *emailprovider.DeliveryError; of any other, nothing is shown.
type TokenSource interface {
	Token(ctx context.Context, via emailprovider.Route) (Bearer, error)
}

// Options of a Transport. The zero value is ready to use.
type Options struct {
	// EHLOName is what to call this machine; default its host name. A remote server gets an
	// address literal instead if the name is not a qualified domain name (see ValidEHLOName).
	EHLOName string
	// Roots are the certificate authorities to trust; nil for the system's. See Roots.
	Roots *x509.CertPool
	// PlaintextAuthHosts are the hosts, as in the provider's settings without the port, that get
	// credentials over plain connections. Loopback always may.
	PlaintextAuthHosts []string
	// Dialer opens connections; default an egress.Guard for one instance.
	Dialer Dialer
	// Tokens gets bearer tokens; default a TokenClient with the same Dialer and Roots. Carry keeps them
	// in a TokenCache; whoever tests settings wants to know whether they work now.
	Tokens TokenSource
	// StepTimeout bounds each step, and each exchange in it; default DefaultStepTimeout. A reply to
	// the final dot that comes later is a mail sent twice (RFC 5321, section 4.5.3.2.6).
	StepTimeout time.Duration
	// Timeout bounds a whole delivery; default DefaultTimeout.
	Timeout time.Duration
	// CarryStepTimeout is StepTimeout for Carry; default DefaultCarryStepTimeout.
	CarryStepTimeout time.Duration
	// FinalDotTimeout is how long Carry waits for the reply to the final dot; default
	// DefaultFinalDotTimeout.
	FinalDotTimeout time.Duration
	// Sessions is how many sessions Carry has with a provider at once; default DefaultSessions.
	Sessions int
	// IdleTimeout is how long Carry keeps a session that nobody uses; default DefaultIdleTimeout.
	IdleTimeout time.Duration
	// WebhookTimeout bounds one POST to a webhook; default DefaultWebhookTimeout.
	WebhookTimeout time.Duration
	// Now is the clock for signatures and the validity of certificates; default time.Now.
	Now func() time.Time
}

// Transport implements emailprovider.Mailer, and carries the mails of the outbox.
type Transport struct {
	ehloName    func() string
	roots       *x509.CertPool
	plainHosts  map[string]bool
	dialer      Dialer
	tokens      TokenSource
	stepTimeout time.Duration
	dotTimeout  time.Duration
	timeout     time.Duration
	now         func() time.Time

	pool    *pool
	patient *Transport  // with Carry's limits
	kept    *TokenCache // of patient

	webhooks       *hooks
	webhookTimeout time.Duration
}

var _ emailprovider.Mailer = (*Transport)(nil)

// New returns a Transport.
func New(o Options) *Transport {
	t := &Transport{
		ehloName:    machineName,
		roots:       o.Roots,
		plainHosts:  map[string]bool{},
		dialer:      o.Dialer,
		tokens:      o.Tokens,
		stepTimeout: cmp.Or(o.StepTimeout, DefaultStepTimeout),
		dotTimeout:  cmp.Or(o.StepTimeout, DefaultStepTimeout),
		timeout:     cmp.Or(o.Timeout, DefaultTimeout),
		now:         o.Now,
		pool:        newPool(cmp.Or(o.Sessions, DefaultSessions), cmp.Or(o.IdleTimeout, DefaultIdleTimeout)),

		webhookTimeout: cmp.Or(o.WebhookTimeout, DefaultWebhookTimeout),
	}
	if o.EHLOName != "" {
		t.ehloName = func() string { return o.EHLOName }
	}
	for _, host := range o.PlaintextAuthHosts {
		t.plainHosts[foldHost(host)] = true
	}
	if t.dialer == nil {
		t.dialer = egress.NewGuard(egress.Options{})
	}
	if t.now == nil {
		t.now = time.Now
	}
	if t.tokens == nil {
		t.tokens = &TokenClient{Dialer: t.dialer, Roots: t.roots}
	}
	t.webhooks = newHooks(t)
	patient := *t
	patient.stepTimeout = cmp.Or(o.CarryStepTimeout, DefaultCarryStepTimeout)
	t.kept = NewTokenCache(t.tokens, t.now)
	patient.tokens = t.kept
	patient.dotTimeout = cmp.Or(o.FinalDotTimeout, DefaultFinalDotTimeout)
	t.patient = &patient
	return t
}

// Close ends the sessions that Carry has kept. Those in use end when they are done with.
func (t *Transport) Close() {
	t.pool.close()
	t.webhooks.close()
}

// Drop ends the sessions that Carry has kept of an instance, and forgets its bearer tokens. Sessions in use end
// when they are done with.
func (t *Transport) Drop(instance string) {
	t.pool.drop(instance)
	t.kept.drop(instance)
}

// Deliver implements emailprovider.Mailer.
func (t *Transport) Deliver(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	clean := newRedactor(via.Secret)
	if err := t.deliver(ctx, via, mail, clean); err != nil {
		return explain(ctx, err, clean.about(via, mail))
	}
	return nil
}

func (t *Transport) deliver(ctx context.Context, via emailprovider.Route, mail emailprovider.Mail, clean *redactor) error {
	msg, err := t.compose(*via.SMTP, mail)
	if err != nil {
		return err
	}
	s, err := t.open(ctx, via, clean)
	if err != nil {
		return err
	}
	defer s.end(ctx)
	return s.send(ctx, msg)
}

// open returns a session that is ready to send.
func (t *Transport) open(ctx context.Context, via emailprovider.Route, clean *redactor) (*session, error) {
	withLogin, err := needsLogin(via)
	if err != nil {
		return nil, err
	}
	roots, err := t.rootsFor(via)
	if err != nil {
		return nil, err
	}
	s, err := t.connect(ctx, *via.SMTP, roots, withLogin, clean)
	if err != nil {
		return nil, err
	}
	err = t.prepare(ctx, s)
	if err == nil && withLogin {
		err = t.authenticate(ctx, s, via)
	}
	if err != nil {
		s.end(ctx)
		return nil, err
	}
	return s, nil
}

// prepare takes a new connection to where AUTH or mail can follow.
func (t *Transport) prepare(ctx context.Context, s *session) error {
	if err := s.greeting(ctx); err != nil {
		return err
	}
	if err := s.hello(ctx, t.nameFor(s.conn)); err != nil || s.mode != startTLS {
		return err
	}
	if err := s.startTLS(ctx, t.tlsConfig(s.host, s.roots)); err != nil {
		return err
	}
	// What was offered in the clear may have been anyone's (RFC 3207, section 4.2).
	return s.hello(ctx, t.nameFor(s.conn))
}
