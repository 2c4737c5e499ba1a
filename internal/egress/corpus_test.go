package egress_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/secret"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// guard is what a corpus is tried on.
type guard interface {
	delivery.Dialer
	emailprovider.Egress
}

// errStays keeps the tests' connections on this machine.
var errStays = errors.New("this test connects to loopback only")

// staysHere lets connections to loopback be made.
func staysHere(_, address string) error {
	if host, _, _ := net.SplitHostPort(address); !net.ParseIP(host).IsLoopback() {
		return errStays
	}
	return nil
}

// form is a line of the corpus.
type form struct{ kind, target string }

// lines reads a table of the corpus; each line that has something to resolve is given to names.
func lines(t *testing.T, file string, port string, n *names) (all []form) {
	t.Helper()
	table, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.ReplaceAll(string(table), "PORT", port)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		target, answers, _ := strings.Cut(rest, " ")
		if kind == "name" || kind == "rebind" {
			host, _, err := net.SplitHostPort(target)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			n.set(host, answers)
		}
		all = append(all, form{kind, target})
	}
	return all
}

// recorder is a server on loopback that counts who comes.
type recorder struct {
	port string
	came atomic.Int64
}

func startRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	v4, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, r.port, _ = net.SplitHostPort(v4.Addr().String())
	all := []net.Listener{v4}
	if v6, err := net.Listen("tcp", "[::1]:"+r.port); err == nil { // a machine without IPv6 has less to try
		all = append(all, v6)
	}
	for _, l := range all {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				r.came.Add(1)
				_ = conn.Close()
			}
		}()
		t.Cleanup(func() { _ = l.Close(); <-done })
	}
	return r
}

// corpus tries every form on a guard, in every way in which a target is named.
type corpus struct {
	t         *testing.T
	guard     guard
	names     *names
	service   *emailprovider.Service
	transport *delivery.Transport
	smtp, web string // ids of providers to update

	accepted []string        // settings that were not refused
	texts    map[string]bool // of refusals
}

var caller = emailprovider.Caller{Instance: instance.Default}

// anySender is a policy that demands nothing.
type anySender struct{}

func (anySender) Policy(context.Context, string) (emailprovider.Policy, error) {
	return emailprovider.Policy{}, nil
}

func newCorpus(t *testing.T, g guard, n *names) *corpus {
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	keyset, err := seal.Create(&keyfile{})
	if err != nil {
		t.Fatal(err)
	}
	c := &corpus{t: t, guard: g, names: n, texts: map[string]bool{}}
	c.transport = delivery.New(delivery.Options{Dialer: g, StepTimeout: time.Second, CarryStepTimeout: time.Second})
	t.Cleanup(c.transport.Close)
	c.service = emailprovider.NewService(emailprovider.Config{
		Store: store, Sealer: keyset, Policies: anySender{}, Mailer: c.transport, Egress: g,
		Log: slog.New(slog.DiscardHandler),
	})
	p, err := c.service.AddSMTP(t.Context(), caller, settings("8.8.8.8:587", ""))
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := c.service.AddHTTP(t.Context(), caller, emailprovider.HTTPSettings{Endpoint: "https://8.8.8.8/"})
	if err != nil {
		t.Fatal(err)
	}
	c.smtp, c.web = p.ID, w.ID
	return c
}

// keyfile keeps a keyset in memory.
type keyfile struct{ data []byte }

func (f *keyfile) Read() ([]byte, error) {
	if f.data == nil {
		return nil, fs.ErrNotExist
	}
	return f.data, nil
}

func (f *keyfile) Write(data []byte) error { f.data = data; return nil }

// settings are of a mail server, with a token endpoint unless it is empty.
func settings(host, endpoint string) emailprovider.SMTPSettings {
	s := emailprovider.SMTPSettings{SenderAddress: "a@example.com", Host: host, TLS: true, User: "u"}
	s.Auth = emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain, Secret: secret.New("c4n4ry")}
	if endpoint != "" {
		s.Auth.Choice, s.Auth.XOAuth2 = emailprovider.ChooseXOAuth2, emailprovider.XOAuth2{TokenEndpoint: endpoint, ClientID: "c"}
	}
	return s
}

// try tries a form.
func (c *corpus) try(f form) {
	switch f.kind {
	case "host", "name", "rebind":
		c.tryHost(f)
		c.tryURL(form{f.kind, "http://" + f.target + "/"})
	case "url":
		c.tryURL(f)
	case "redirect":
		c.tryRedirect(f)
	default:
		c.t.Fatalf("%q is no kind of form", f.kind)
	}
}

func (c *corpus) tryHost(f form) {
	ctx, in := c.t.Context(), settings(f.target, "")
	c.setting(f, "add", func() error { _, err := c.service.AddSMTP(ctx, caller, in); return err })
	c.setting(f, "update", func() error { _, err := c.service.UpdateSMTP(ctx, caller, c.smtp, in); return err })
	c.testing(f, "test", func() error { return c.service.TestValues(ctx, caller, "", in, "r@example.com") })
	c.testing(f, "verify", func() error {
		r, err := c.service.VerifyNew(ctx, caller, emailprovider.VerifyValues{Host: f.target, TLS: true}, "")
		if err == nil && r.Failed != nil {
			err = r.Failed
		}
		return err
	})
	c.connecting(f, "dial", func() error {
		conn, err := c.guard.DialContext(ctx, "tcp", f.target)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	via := emailprovider.Route{SMTP: &emailprovider.SMTP{SenderAddress: "a@example.com", Host: f.target}, Secret: secret.New("c4n4ry")}
	c.connecting(f, "deliver", func() error { return c.transport.Deliver(ctx, via, mail) })
	c.connecting(f, "carry", func() error { return c.carry(via) })
}

var mail = emailprovider.Mail{MessageID: "1@example.com", To: []string{"r@example.com"}, Recipients: []string{"r@example.com"}, Text: "t"}

// carry returns why a mail of the outbox is not delivered. It must be one that can be tried again.
func (c *corpus) carry(via emailprovider.Route) (failed error) {
	c.transport.Carry(c.t.Context(), via, []emailprovider.Mail{mail}, func(_ int, d emailprovider.Delivery) bool {
		if d.Failed == nil {
			return true
		}
		failed = d.Failed
		if d.Failed.Step != emailprovider.StepDial && !d.Failed.Temporary || len(d.Verdicts) > 0 {
			c.t.Errorf("a mail is lost: %+v", d.Failed)
		}
		return true
	})
	return failed
}

func (c *corpus) tryURL(f form) {
	ctx := c.t.Context()
	c.setting(f, "add webhook", func() error {
		_, _, err := c.service.AddHTTP(ctx, caller, emailprovider.HTTPSettings{Endpoint: f.target})
		return err
	})
	c.setting(f, "update webhook", func() error {
		_, _, err := c.service.UpdateHTTP(ctx, caller, c.web, emailprovider.HTTPSettings{Endpoint: f.target})
		return err
	})
	c.setting(f, "add token endpoint", func() error { _, err := c.service.AddSMTP(ctx, caller, settings("8.8.8.8:25", f.target)); return err })
	c.tryRequests(f, f.target)
}

// tryRequests sends requests to an endpoint as the outbox does.
func (c *corpus) tryRequests(f form, endpoint string) {
	hook := emailprovider.Route{HTTP: &emailprovider.HTTP{Endpoint: endpoint}, Secret: secret.New("c4n4ry")}
	c.connecting(f, "post", func() error { return c.carry(hook) })
	via := emailprovider.Route{SMTP: &emailprovider.SMTP{
		Host: "8.8.8.8:25", Auth: emailprovider.AuthXOAuth2, XOAuth2: emailprovider.XOAuth2{TokenEndpoint: endpoint, ClientID: "c"},
	}, Secret: secret.New("c4n4ry")}
	c.connecting(f, "token", func() error {
		_, err := (&delivery.TokenClient{Dialer: c.guard, Timeout: time.Second}).Token(c.t.Context(), via)
		return err
	})
}

// tryRedirect has an allowed server, at redirector, send requests to the target.
func (c *corpus) tryRedirect(f form) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", f.target)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	c.tryRequests(f, "http://"+net.JoinHostPort(redirector, port)+"/")
}

// redirector is a name that is allowed, on loopback.
const redirector = "redirector.example.com"

// setting is a try to store a target. A name that changes may be stored: it is good then.
func (c *corpus) setting(f form, what string, try func() error) {
	c.names.forget()
	err := try()
	if f.kind != "rebind" {
		c.refused(f, what, err)
	}
}

// testing is a try of a target that is not stored, which looks a name up twice.
func (c *corpus) testing(f form, what string, try func() error) {
	c.names.forget()
	c.refused(f, what, try())
}

// connecting is a try to connect to a target that got past all checks. Whether it does is for the
// listener and the dialer to say.
func (c *corpus) connecting(f form, what string, try func() error) {
	lookups := 1
	if f.kind == "rebind" {
		lookups = 2 // what a name led to when it was stored, is past
	}
	c.names.forget()
	for range lookups {
		if err := try(); err == nil {
			c.accepted = append(c.accepted, fmt.Sprintf("%s: %s %s", what, f.kind, f.target))
		}
	}
}

func (c *corpus) refused(f form, what string, err error) {
	refused, isFault := errors.AsType[*fault.Error](err)
	said, isDelivery := errors.AsType[*emailprovider.DeliveryError](err)
	switch {
	case isFault && refused.Kind == fault.InvalidArgument: // it is no target at all
	case isFault && refused.Kind == fault.FailedPrecondition:
		c.texts[refused.Error()] = true
	case isDelivery && f.kind == "rebind":
		c.texts[said.Text] = true
	default:
		c.accepted = append(c.accepted, fmt.Sprintf("%s: %s %s: %v", what, f.kind, f.target, err))
	}
}

// outcome is what a corpus has come to.
type outcome struct {
	forms     int
	connected int64 // connections that were made, or begun
	accepted  []string
	texts     map[string]bool
}

// run tries all hostile forms on the guard that make returns.
func run(t *testing.T, make func(resolver *net.Resolver, begun func(network, address string) error) guard) outcome {
	n, r := startNames(t), startRecorder(t)
	n.set(redirector, "127.0.0.1")
	forms := lines(t, "hostile.txt", r.port, n)
	var begun atomic.Int64
	c := newCorpus(t, make(n.resolver(), func(network, address string) error {
		host, port, _ := net.SplitHostPort(address)
		reached := net.ParseIP(host)
		switch {
		case reached.IsLoopback() && port != r.port: // the redirector
			return nil
		case host == "93.184.216.34" || host == "2606:4700::1111" || host == "8.8.8.8": // what is allowed of mixed answers
			return errStays
		}
		begun.Add(1)
		return staysHere(network, address)
	}), n)
	for _, f := range forms {
		c.try(f)
	}
	return outcome{len(forms), begun.Load() + r.came.Load(), c.accepted, c.texts}
}

// many is an installation with more than one instance.
func many(context.Context) bool { return true }

// TestCorpus tries every hostile form wherever a target can be named, and connects to it in every way in
// which something leaves the machine; and every legitimate target.
func TestCorpus(t *testing.T) {
	allowed, err := egress.ParseTarget(redirector)
	if err != nil {
		t.Fatal(err)
	}
	o := run(t, func(resolver *net.Resolver, begun func(network, address string) error) guard {
		return egress.NewGuard(egress.Options{Many: many, Resolver: resolver, Allow: []egress.Target{allowed}}).OnDial(begun)
	})
	for _, what := range o.accepted {
		t.Error("accepted: " + what)
	}
	for text := range o.texts {
		if !strings.Contains(text, egress.ErrDenied.Error()) && !strings.Contains(text, "nothing may be sent to; the operator can allow some") {
			t.Errorf("a refusal says %q", text)
		}
	}
	if len(o.texts) > 6 { // three settings, a delivery, and the steps of one
		t.Errorf("refusals differ: %v", o.texts)
	}
	denials, targets := falseDenials(t)
	t.Logf("REL egress forms=%d connected=%d accepted=%d legitimate=%d false_denials=%d", o.forms, o.connected, len(o.accepted), targets, denials)
	if o.forms < 120 || o.connected != 0 || denials != 0 {
		t.Fail()
	}

	careless := run(t, func(resolver *net.Resolver, begun func(network, address string) error) guard {
		return naive{egress.NewGuard(egress.Options{Many: many, Resolver: resolver, Allow: []egress.Target{allowed}}), resolver, begun}
	})
	t.Logf("REL egress control=checks_before_resolving connected=%d", careless.connected)
	if careless.connected == 0 {
		t.Error("a guard that checks before it resolves is not caught")
	}
}

// naive looks at targets before it connects, and then no more.
type naive struct {
	*egress.Guard
	resolver *net.Resolver
	begun    func(network, address string) error
}

// DialContext implements delivery.Dialer.
func (n naive) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if n.Denies(ctx, address) {
		return nil, egress.ErrDenied
	}
	d := net.Dialer{Resolver: n.resolver, Control: func(network, address string, _ syscall.RawConn) error { return n.begun(network, address) }}
	return d.DialContext(ctx, network, address)
}

// falseDenials returns how many legitimate targets are denied, and how many there are.
func falseDenials(t *testing.T) (denials, targets int) {
	n := startNames(t)
	var allowed []egress.Target
	var all []string
	for _, f := range lines(t, "legitimate.txt", "", n) {
		if f.kind != "allowed" {
			host, _, _ := net.SplitHostPort(f.kind)
			if f.target != "" {
				n.set(host, f.target)
			}
			all = append(all, f.kind)
			continue
		}
		target, err := egress.ParseTarget(f.target)
		if err != nil {
			t.Fatal(err)
		}
		allowed = append(allowed, target)
	}
	n.set("xn--bcher-kva.example", "93.184.216.34")
	n.set("xn--mnchen-3ya.example", "93.184.216.34")
	n.set("named.example.com", "10.1.2.3")
	g := egress.NewGuard(egress.Options{Many: many, Resolver: n.resolver(), Allow: allowed}).OnDial(func(string, string) error { return errStays })
	for _, target := range all {
		n.forget()
		denied := g.Denies(t.Context(), target)
		_, err := g.DialContext(t.Context(), "tcp", target)
		if denied || errors.Is(err, egress.ErrDenied) || !errors.Is(err, errStays) && !strings.HasPrefix(target, "not-there") && isASCII(target) {
			t.Errorf("%s: denied %v, %v", target, denied, err)
			denials++
		}
	}
	return denials, len(all)
}

func isASCII(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r > '~' }) < 0 }
