package app_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// fates is what becomes of a mail, by the point of a session (rows) at which each of smtptest.Faults
// (columns) meets it. Held is queued with the breaker open. A lost reply to the final dot is the one
// case in which the server may have the mail and the mail stays queued.
const fates = `
GREETING  queued queued queued queued queued queued queued queued queued
EHLO      queued queued queued queued queued queued queued queued queued
STARTTLS  queued queued queued queued queued queued queued queued queued
AUTH      queued held   queued queued queued queued queued queued queued
MAIL      queued failed queued queued queued queued queued queued queued
RCPT      queued failed queued queued queued queued queued queued queued
DATA      queued failed queued queued queued queued queued queued queued
BODY      queued failed queued queued queued queued queued queued queued
QUIT      delivered delivered delivered delivered delivered delivered delivered delivered delivered
`

// faultSteps are the steps at which a mail's attempt may have failed for a fault at a point. A server on
// a port of no meaning is asked for TLS before its greeting.
var faultSteps = map[string][]string{
	smtptest.Greeting: {"dial", "tls", "ehlo"}, smtptest.EHLO: {"ehlo"}, smtptest.Upgrade: {"starttls"}, smtptest.Auth: {"auth"},
	smtptest.MailFrom: {"from"}, smtptest.RcptTo: {"recipient"}, smtptest.Data: {"data"}, smtptest.Body: {"data"},
}

// cell is a fault at a point of a session, with TLS or without.
type cell struct {
	point string
	fault smtptest.Fault
	tls   bool
	want  string
}

func (c cell) String() string {
	if c.tls {
		return c.point + "/" + string(c.fault) + "/tls"
	}
	return c.point + "/" + string(c.fault)
}

// cells returns every cell; without TLS there is no STARTTLS.
func cells(t *testing.T) (all []cell) {
	t.Helper()
	rows := strings.Split(strings.TrimSpace(fates), "\n")
	for i, point := range smtptest.Points() {
		row := strings.Fields(rows[i])
		if row[0] != point || len(row) != 1+len(smtptest.Faults()) || len(rows) != len(smtptest.Points()) {
			t.Fatalf("row %q is not for %s and %v", rows[i], point, smtptest.Faults())
		}
		for j, fault := range smtptest.Faults() {
			all = append(all, cell{point, fault, true, row[1+j]})
			if point != smtptest.Upgrade {
				all = append(all, cell{point, fault, false, row[1+j]})
			}
		}
	}
	return all
}

// faultBed is what faults are met with.
type faultBed struct {
	cert   *tls.Certificate
	caFile string

	mails, recovered, inClear atomic.Int64
	slowest                   atomic.Int64 // to a state, in nanoseconds
}

func newFaultBed(t *testing.T) *faultBed {
	t.Helper()
	ca, err := smtptest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	b := &faultBed{caFile: filepath.Join(t.TempDir(), "ca.pem")}
	if b.cert, err = ca.Loopback(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.caFile, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// start runs a service that gives servers this long for each step.
func (b *faultBed) start(t *testing.T, step time.Duration, wrap func(app.Store) app.Store) *service {
	t.Helper()
	c := config(t)
	c.CAFile, c.CarryStepTimeout, c.FinalDotTimeout, c.WrapStore = b.caFile, step, step, wrap
	return start(t, c)
}

// TestFaults has a mail meet every fault at every point. It gets the state that it deserves within its
// time, credentials don't show in the clear, and once the fault is over a mail that was not refused is
// delivered, once.
func TestFaults(t *testing.T) {
	b := newFaultBed(t)
	// Only servers that stall are given up on soon, so that a slow machine is not taken for one.
	all, stalling := make(chan cell, 200), make(chan cell, 200)
	for _, c := range cells(t) {
		if c.fault == smtptest.FaultStall {
			stalling <- c
		} else {
			all <- c
		}
	}
	total := len(all) + len(stalling)
	close(all)
	close(stalling)
	var wrong atomic.Int64
	var running sync.WaitGroup
	for i := range 8 {
		work, step := all, 20*time.Second
		if i < 4 {
			work, step = stalling, time.Second
		}
		s := b.start(t, step, nil)
		running.Go(func() {
			for c := range work {
				t.Run(c.String(), func(t *testing.T) {
					for _, complaint := range b.meet(t, s, c) {
						wrong.Add(1)
						t.Error(complaint)
					}
				})
			}
		})
	}
	running.Wait()
	t.Logf("REL faults cells=%d wrong=%d mails=%d recovered=%d auth_in_clear=%d slowest_ms=%d", total, wrong.Load(), b.mails.Load(),
		b.recovered.Load(), b.inClear.Load(), time.Duration(b.slowest.Load()).Milliseconds())
}

// hasty is a store that takes a mail whose first attempt has failed for a failed one.
type hasty struct{ app.Store }

func (h hasty) Settle(ctx context.Context, all []outbox.Settlement) ([]outbox.Lease, error) {
	for i := range all {
		if all[i].State == outbox.Queued {
			all[i].State = outbox.Failed
		}
	}
	return h.Store.Settle(ctx, all)
}

// TestFaultsAreMeasured sees that the test above would notice mails that are given up too early, and
// credentials in the clear.
func TestFaultsAreMeasured(t *testing.T) {
	b := newFaultBed(t)
	s := b.start(t, 20*time.Second, func(s app.Store) app.Store { return hasty{s} })
	for _, c := range cells(t) {
		if c.fault == smtptest.FaultTemporary && c.want == "queued" && len(b.meet(t, s, c)) == 0 {
			t.Errorf("%s: a mail that was given up was not noticed", c)
		}
	}
	for _, lines := range [][]string{{"EHLO x", "AUTH PLAIN eA=="}, {"EHLO x", "STARTTLS", "AUTH PLAIN eA=="}} {
		if inClear(lines, true) == 0 {
			t.Errorf("credentials in the clear were not noticed: %q", lines)
		}
	}
	if inClear([]string{"EHLO x", "STARTTLS", "EHLO x", "AUTH PLAIN eA=="}, false) == 0 {
		t.Error("credentials in the clear after STARTTLS was refused were not noticed")
	}
}

// meeting is one mail that meets a fault.
type meeting struct {
	mailRun
	cell
	server *smtptest.Hostile
	armed  atomic.Bool
	wrong  []string
}

// meet returns what went otherwise than it should.
func (b *faultBed) meet(t *testing.T, s *service, c cell) []string {
	m := &meeting{mailRun: mailRun{t: t, s: s, wire: s.wires(http1)[0]}, cell: c}
	var err error
	if m.server, err = smtptest.StartHostile(m.script(b.cert)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.server.Close() }()
	m.provider, _ = m.call("AddEmailProviderSMTP", fmt.Sprintf(
		`{"senderAddress":"s@example.com","senderName":"S","host":%q,"tls":%v,"user":"u","password":"p1"}`, m.server.Addr(), c.tls)).at("id").(string)
	m.call("ActivateEmailProvider", `{"id":"$provider"}`)
	m.armed.Store(true)

	began := time.Now()
	id, _ := m.call("SendMessage", `{"to":["r@example.com"],"text":"x"}`).at("id").(string)
	f := m.attempted(id, 1)
	took := time.Since(began)
	b.mails.Add(1)
	b.slowest.Store(max(b.slowest.Load(), int64(took)))
	if took > 5*time.Second {
		m.complain("its fate was known after %s", took)
	}
	m.checkState(f)
	lines := m.server.Lines()
	exposed := m.inClear(lines, c.point != smtptest.Greeting && c.point != smtptest.EHLO && c.point != smtptest.Upgrade)
	if c.want == "queued" || c.want == "held" {
		m.recover(id)
		b.recovered.Add(1)
	}
	if c.point == smtptest.Quit {
		m.partAndMeetAgain()
	}
	m.checkBodies(id)
	b.inClear.Add(int64(exposed + m.inClear(m.server.Lines()[len(lines):], true)))
	return m.wrong
}

// script has the fault while the meeting is armed.
func (m *meeting) script(cert *tls.Certificate) smtptest.Script {
	if !m.tls {
		cert = nil
	}
	script := smtptest.FaultScript(m.point, m.fault, cert)
	script.Pipelining = m.tls // each has its own way through a session
	script.Answers[m.point] = while(&m.armed, script.Answers[m.point])
	return script
}

// while gives an answer while it is armed, and a friendly one otherwise.
func while(armed *atomic.Bool, a smtptest.Answer) smtptest.Answer {
	friendly := smtptest.First(0, a)
	return func(w io.Writer, line string) error {
		if armed.Load() {
			return a(w, line)
		}
		return friendly(w, line)
	}
}

func (m *meeting) complain(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

// errSeen ends a watch.
var errSeen = errors.New("seen")

// attempted waits until n attempts of a mail are over, and returns its record.
func (r *mailRun) attempted(id string, n int) fields {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	err := r.s.Messages.Watch(ctx, instance.Default, id, "", nil, func(m outbox.Message) error {
		if m.State != outbox.Sending && m.Attempts >= n {
			return errSeen
		}
		return nil
	})
	if err != nil && !errors.Is(err, errSeen) {
		r.t.Fatalf("waiting for mail %s: %v; %v", id, err, r.call("GetMessage", `{"id":"`+id+`"}`))
	}
	return r.call("GetMessage", `{"id":"`+id+`"}`)
}

// checkState looks at the mail after its first attempt, and at the receipt of its provider.
func (m *meeting) checkState(f fields) {
	breaker := "BREAKER_STATE_CLOSED"
	state := m.want
	if m.want == "held" {
		state, breaker = "queued", "BREAKER_STATE_OPEN"
	}
	if got := f.at("message", "state"); got != "MESSAGE_STATE_"+strings.ToUpper(state) {
		m.complain("state %v, want %s", got, state)
	}
	attempts, _ := f.at("message", "attempts").([]any)
	if len(attempts) != 1 {
		m.complain("%d attempts", len(attempts))
	}
	reason, _ := f.at("message", "reason").(string)
	step, _, _ := strings.Cut(reason, ":")
	if steps := faultSteps[m.point]; steps != nil && !slices.Contains(steps, step) || steps == nil && reason != "" {
		m.complain("reason %q, want one of %v", reason, steps)
	}
	status := m.call("GetProviderStatus", `{"id":"$provider"}`)
	if got := status.at("status", "breaker"); got != breaker {
		m.complain("breaker %v, want %s; reason %q", got, breaker, reason)
	}
}

// recover ends the fault and what it holds back, and wants the mail delivered.
func (m *meeting) recover(id string) {
	m.armed.Store(false)
	m.call("UpdateEmailProviderSMTPPassword", `{"id":"$provider","password":"p2"}`)
	m.retry(id)
	if f := m.attempted(id, 2); f.at("message", "state") != "MESSAGE_STATE_DELIVERED" {
		m.complain("not delivered when the fault was over: %v", f)
	}
}

// retry has a mail tried at once, unless it is already, or never will be.
func (r *mailRun) retry(id string) {
	r.t.Helper()
	if a := r.try("RetryMessage", `{"id":"`+id+`"}`); a.code != 0 && a.id != "MAILKEEP-STATE" && a.id != "MAILKEEP-ERASED" {
		r.t.Errorf("mail %s can't be tried again: %v", id, a)
	}
}

// partAndMeetAgain has the session ended for a new credential, and sends a mail over the next.
func (m *meeting) partAndMeetAgain() {
	m.call("UpdateEmailProviderSMTPPassword", `{"id":"$provider","password":"p2"}`)
	id, _ := m.call("SendMessage", `{"to":["r@example.com"],"text":"x"}`).at("id").(string)
	if f := m.attempted(id, 1); f.at("message", "state") != "MESSAGE_STATE_DELIVERED" {
		m.complain("the next mail: %v", f)
	}
	m.checkBodies(id)
	if !slices.Contains(m.server.Lines(), "QUIT") {
		m.complain("the session did not end with QUIT")
	}
}

// checkBodies wants the server to have accepted the mail once, or never if it has failed.
func (m *meeting) checkBodies(id string) {
	want := 1
	if m.want == "failed" {
		want = 0
	}
	if got := bodies(m.server)[id]; got != want {
		m.complain("the server took it %d times, want %d", got, want)
	}
}

// bodies counts the messages that a server has accepted, by the id of the mail.
func bodies(server *smtptest.Hostile) map[string]int {
	count := map[string]int{}
	for _, message := range server.Messages() {
		_, id, _ := strings.Cut(message, "Message-ID: <")
		id, _, _ = strings.Cut(id, "@")
		count[id]++
	}
	return count
}

// inClear counts the AUTH commands that were sent without TLS although the provider has it on. The server
// may have taken STARTTLS, or not.
func (m *meeting) inClear(lines []string, taken bool) (n int) {
	if m.tls {
		n = inClear(lines, taken)
	}
	if n > 0 {
		m.complain("credentials were sent in the clear, %d times", n)
	}
	return n
}

// inClear counts the AUTH commands that did not follow on STARTTLS and a new EHLO. Beginnings of TLS,
// with which the client tries the port, may come between.
func inClear(lines []string, taken bool) (n int) {
	var before [2]string
	for _, line := range lines {
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "AUTH":
			if !taken || before != [2]string{"STARTTLS", "EHLO"} {
				n++
			}
			fallthrough
		case "EHLO", "STARTTLS", "MAIL", "QUIT":
			before = [2]string{before[1], verb}
		}
	}
	return n
}
