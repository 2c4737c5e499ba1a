package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// stages are the parts of a plain session that can fail, and what that is called.
var stages = []struct {
	stage string
	step  emailprovider.Step
}{
	{smtptest.Greeting, emailprovider.StepEHLO},
	{smtptest.EHLO, emailprovider.StepEHLO},
	{smtptest.Auth, emailprovider.StepAuth},
	{smtptest.MailFrom, emailprovider.StepFrom},
	{smtptest.RcptTo, emailprovider.StepRecipient},
	{smtptest.Data, emailprovider.StepData},
	{smtptest.Body, emailprovider.StepData},
}

// TestRefusals has each stage refused for now and for good, and answered with nonsense.
func TestRefusals(t *testing.T) {
	for _, s := range stages {
		for _, c := range []struct {
			reply string
			want  emailprovider.DeliveryError
		}{
			{"421 4.3.2 closing\r\n", emailprovider.DeliveryError{Code: 421, Text: "4.3.2 closing", Temporary: true}},
			{"451 4.3.0 later\r\n", emailprovider.DeliveryError{Code: 451, Text: "4.3.0 later", Temporary: true}},
			{"554-5.7.1 no\r\n554 never\r\n", emailprovider.DeliveryError{Code: 554, Text: "5.7.1 no never"}},
			{"550\n", emailprovider.DeliveryError{Code: 550}},
			{"550 \a\x1b[31m\xff\u202e\r\n", emailprovider.DeliveryError{Code: 550, Text: `\a\x1b[31m\xff\u202e`}},
			{"hello\r\n", emailprovider.DeliveryError{Text: "the server sent something that is not an SMTP reply"}},
			{"550-a\r\n551 b\r\n", emailprovider.DeliveryError{Text: "the server sent something that is not an SMTP reply"}},
		} {
			h := startHostile(t, answers(s.stage, smtptest.Say(c.reply)))
			got := failed(t, deliver(t, delivery.Options{}, withPassword(plainRoute(h.Addr()))))
			c.want.Step = s.step
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s %q:\n%s", s.stage, c.reply, diff)
			}
		}
	}
}

// TestHangups closes the connection at each stage.
func TestHangups(t *testing.T) {
	for _, s := range stages {
		h := startHostile(t, answers(s.stage, smtptest.Hangup()))
		got := failed(t, deliver(t, delivery.Options{}, withPassword(plainRoute(h.Addr()))))
		want := emailprovider.DeliveryError{Step: s.step, Text: "connection closed by the server", Temporary: true}
		if got != want {
			t.Errorf("%s: %+v", s.stage, got)
		}
	}
}

// TestSilence has the server say nothing more at each stage.
func TestSilence(t *testing.T) {
	const step, all = 60 * time.Millisecond, 30 * time.Millisecond
	for name, o := range map[string]delivery.Options{
		"step": {StepTimeout: step}, "all": {StepTimeout: time.Minute, Timeout: all},
	} {
		for _, s := range stages {
			h := startHostile(t, answers(s.stage, smtptest.Stall()))
			within(t, 2*time.Second, func() {
				got := failed(t, deliver(t, o, withPassword(plainRoute(h.Addr()))))
				want := emailprovider.DeliveryError{Step: s.step, Text: "timed out", Temporary: true}
				if got != want {
					t.Errorf("%s %s: %+v", name, s.stage, got)
				}
			})
		}
		for _, c := range silentTLS(t) {
			h := startHostile(t, c.script)
			o.Dialer = redirect{h.Addr(), nil}
			within(t, 2*time.Second, func() {
				got := failed(t, deliver(t, o, tlsRoute(c.port)))
				want := emailprovider.DeliveryError{Step: c.step, Text: "timed out", Temporary: true}
				if got != want {
					t.Errorf("%s port %s: %+v", name, c.port, got)
				}
			})
		}
	}
}

type silence struct {
	port   string
	script smtptest.Script
	step   emailprovider.Step
}

// silentTLS are the ways of saying nothing where TLS is wanted.
func silentTLS(t *testing.T) []silence {
	cert, err := newCA(t).Loopback()
	if err != nil {
		t.Fatal(err)
	}
	mute := answers(smtptest.Greeting, smtptest.Stall())
	upgrade := answers(smtptest.Upgrade, smtptest.Stall())
	handshake := answers(smtptest.Upgrade, func(w io.Writer, line string) error {
		_ = smtptest.Say("220 go ahead\r\n")(w, line)
		return smtptest.Stall()(w, line)
	})
	upgrade.Certificate, handshake.Certificate = cert, cert
	return []silence{
		{"465", mute, emailprovider.StepTLS}, {"8465", mute, emailprovider.StepTLS}, {"587", mute, emailprovider.StepEHLO},
		{"587", upgrade, emailprovider.StepStartTLS}, {"587", handshake, emailprovider.StepStartTLS},
	}
}

// TestDefaultsAnswerInTime: what a caller of the API waits for (ten seconds) has room for all of it.
func TestDefaultsAnswerInTime(t *testing.T) {
	if delivery.DefaultTimeout >= 10*time.Second || delivery.DefaultStepTimeout >= delivery.DefaultTimeout {
		t.Error(delivery.DefaultTimeout, delivery.DefaultStepTimeout)
	}
}

// TestCancel ends a delivery at the moment that its caller gives up.
func TestCancel(t *testing.T) {
	for _, s := range stages[1:] { // at the greeting the dial may not have ended yet
		ctx, cancel := context.WithCancel(t.Context())
		h := startHostile(t, answers(s.stage, func(w io.Writer, line string) error {
			cancel()
			return smtptest.Stall()(w, line)
		}))
		within(t, 2*time.Second, func() {
			err := delivery.New(delivery.Options{}).Deliver(ctx, withPassword(plainRoute(h.Addr())), testMail)
			want := emailprovider.DeliveryError{Step: s.step, Text: "canceled", Temporary: true}
			if got := failed(t, err); got != want {
				t.Errorf("%s: %+v", s.stage, got)
			}
		})
	}
}

// TestQuit: once the message is accepted, nothing makes it a failure, nor takes long.
func TestQuit(t *testing.T) {
	for name, a := range map[string]smtptest.Answer{
		"4xx": smtptest.Say("421 4.3.0 no\r\n"), "5xx": smtptest.Say("500 what\r\n"), "hangup": smtptest.Hangup(),
		"stall": smtptest.Stall(), "endless": smtptest.Endless("221-bye\r\n"), "nonsense": smtptest.Say("\x00\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHostile(t, answers(smtptest.Quit, a))
			within(t, 1500*time.Millisecond, func() {
				if err := deliver(t, delivery.Options{}, plainRoute(h.Addr())); err != nil {
					t.Error(err)
				}
			})
			if lines := h.Lines(); lines[len(lines)-1] != "QUIT" {
				t.Errorf("last said %q", lines[len(lines)-1])
			}
		})
	}
}

// TestBounded: an endless reply ends a delivery early and holds no more than its bound.
func TestBounded(t *testing.T) {
	for _, chunk := range []string{"250-x\r\n", "250-" + strings.Repeat("y", 4000) + "\r\n", "aaaaaaaa", "2", "\x00", "\r\n"} {
		for _, s := range stages {
			h := startHostile(t, answers(s.stage, smtptest.Endless(chunk)))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			e := failed(t, deliver(t, delivery.Options{}, withPassword(plainRoute(h.Addr()))))
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
				t.Errorf("%s %.10q: allocated %d bytes", s.stage, chunk, grown)
			}
			if e.Step != s.step || e.Temporary || !strings.HasPrefix(e.Text, "the server sent") {
				t.Errorf("%s %.10q: %+v", s.stage, chunk, e)
			}
		}
	}
}

func TestLongTextIsCut(t *testing.T) {
	h := startHostile(t, answers(smtptest.RcptTo, smtptest.Say("550-"+strings.Repeat("ä", 1000)+"\r\n550 "+strings.Repeat("é", 1000)+"\r\n")))
	e := failed(t, deliver(t, delivery.Options{}, plainRoute(h.Addr())))
	if e.Text != strings.Repeat("ä", 128) {
		t.Errorf("%d bytes: %q", len(e.Text), e.Text)
	}
}

type failingDialer struct{ err error }

func (f failingDialer) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, f.err
}

// TestDialErrors: an error of the network says what happened, and nothing about our network.
func TestDialErrors(t *testing.T) {
	op := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: elsewhere, Source: elsewhere, Err: err}
	}
	guard := &emailprovider.DeliveryError{Step: emailprovider.StepDial, Text: "--egress-allow does not list it"}
	for _, c := range []struct {
		err  error
		want emailprovider.DeliveryError
	}{
		{op(&net.DNSError{Err: "no such host", Name: "x", Server: "10.0.0.53:53", IsNotFound: true}), emailprovider.DeliveryError{Text: "no such host", Temporary: true}},
		{op(&net.DNSError{Err: "server misbehaving", Server: "10.0.0.53:53"}), emailprovider.DeliveryError{Text: "name lookup failed", Temporary: true}},
		{op(&net.DNSError{Err: "i/o timeout", Server: "10.0.0.53:53", IsTimeout: true}), emailprovider.DeliveryError{Text: "timed out", Temporary: true}},
		{op(syscall.ECONNREFUSED), emailprovider.DeliveryError{Text: "connection refused", Temporary: true}},
		{op(syscall.EHOSTUNREACH), emailprovider.DeliveryError{Text: "unreachable", Temporary: true}},
		{op(syscall.ENETUNREACH), emailprovider.DeliveryError{Text: "unreachable", Temporary: true}},
		{op(syscall.EMFILE), emailprovider.DeliveryError{Text: "network error", Temporary: true}},
		{errors.New("10.0.0.53 said no"), emailprovider.DeliveryError{Text: "network error", Temporary: true}},
		{op(egress.ErrDenied), emailprovider.DeliveryError{Text: egress.ErrDenied.Error()}},
		{fmt.Errorf("guard: %w", guard), *guard},
	} {
		c.want.Step = emailprovider.StepDial
		got := failed(t, deliver(t, delivery.Options{Dialer: failingDialer{c.err}}, plainRoute("x:25")))
		if got != c.want {
			t.Errorf("%v: %+v", c.err, got)
		}
	}
	closed := startHostile(t, smtptest.Script{})
	_ = closed.Close()
	if e := failed(t, deliver(t, delivery.Options{}, plainRoute(closed.Addr()))); e.Text != "connection refused" {
		t.Errorf("%+v", e)
	}
	if e := failed(t, deliver(t, delivery.Options{}, plainRoute("no-port"))); e.Temporary || e.Step != emailprovider.StepDial {
		t.Errorf("%+v", e)
	}
}
