package delivery_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// letters are n mails that differ in id and recipient.
func letters(n int) []emailprovider.Mail {
	mails := make([]emailprovider.Mail, n)
	for i := range mails {
		to := []string{fmt.Sprintf("rcpt%d@example.org", i)}
		mails[i] = emailprovider.Mail{
			MessageID: fmt.Sprintf("mail%d@example.com", i), Date: noon, To: to, Recipients: to, Subject: "Hello", Text: ".dot\r\n",
		}
	}
	return mails
}

func newTransport(t *testing.T, o delivery.Options) *delivery.Transport {
	t.Helper()
	transport := delivery.New(o)
	t.Cleanup(transport.Close)
	return transport
}

// carry returns what became of each mail, and holds Carry to saying it once for each, in order.
func carry(ctx context.Context, t *testing.T, transport *delivery.Transport, via emailprovider.Route, mails []emailprovider.Mail) []emailprovider.Delivery {
	t.Helper()
	return carryUpTo(ctx, t, transport, via, mails, len(mails))
}

// carryUpTo is carry that wants no more after so many mails.
func carryUpTo(ctx context.Context, t *testing.T, transport *delivery.Transport, via emailprovider.Route, mails []emailprovider.Mail, wanted int) []emailprovider.Delivery {
	t.Helper()
	var all []emailprovider.Delivery
	transport.Carry(ctx, via, mails, func(i int, d emailprovider.Delivery) bool {
		if i != len(all) {
			t.Errorf("mail %d is done when %d were", i, len(all))
		}
		all = append(all, d)
		return len(all) < wanted
	})
	if len(all) != len(mails) {
		t.Fatalf("%d of %d mails are done", len(all), len(mails))
	}
	return all
}

// fate is a delivery in short: ok, untried, or the step, code and whether it is temporary.
func fate(d emailprovider.Delivery) string {
	switch {
	case d.Untried:
		return "untried"
	case d.Failed == nil:
		return "ok"
	case d.Failed.Temporary:
		return fmt.Sprintf("%s %d temporary", d.Failed.Step, d.Failed.Code)
	}
	return fmt.Sprintf("%s %d", d.Failed.Step, d.Failed.Code)
}

func fates(all []emailprovider.Delivery) string {
	var list []string
	for _, d := range all {
		list = append(list, fate(d))
	}
	return strings.Join(list, ", ")
}

// stored makes a route one of a provider that is stored.
func stored(via emailprovider.Route, sequence, version uint64) emailprovider.Route {
	via.Instance, via.ProviderID, via.Sequence, via.CredentialVersion = "i", "1", sequence, version
	return via
}

// ids are the message ids of messages.
func ids(messages []string) string {
	var list []string
	for _, m := range messages {
		_, id, _ := strings.Cut(m, "Message-ID: <")
		id, _, _ = strings.Cut(id, "@")
		list = append(list, id)
	}
	return strings.Join(list, " ")
}

// atSession and atMail are what a fault makes of a mail: at a step that is none of the mail's, and at
// one that is.
var atSession = map[smtptest.Fault]string{
	smtptest.FaultTemporary:    "%s 451 temporary",
	smtptest.FaultPermanent:    "%s 550",
	smtptest.FaultReset:        "%s 0 temporary",
	smtptest.FaultStall:        "%s 0 temporary",
	smtptest.FaultWrongCode:    "%s 354",
	smtptest.FaultGarbage:      "%s 0",
	smtptest.FaultEndlessLine:  "%s 0",
	smtptest.FaultEndlessReply: "%s 0",
	smtptest.FaultClose:        "%s 0 temporary",
}

var atMail = map[smtptest.Fault]string{
	smtptest.FaultTemporary:    "%s 451 temporary",
	smtptest.FaultPermanent:    "%s 550",
	smtptest.FaultReset:        "%s 0 temporary",
	smtptest.FaultStall:        "%s 0 temporary",
	smtptest.FaultWrongCode:    "%s 354 temporary",
	smtptest.FaultGarbage:      "%s 0 temporary",
	smtptest.FaultEndlessLine:  "%s 0 temporary",
	smtptest.FaultEndlessReply: "%s 0 temporary",
	smtptest.FaultClose:        "%s 0 temporary",
}

// faultCell is what a fault at a point makes of the first of three mails.
type faultCell struct {
	step    emailprovider.Step
	want    string
	session bool // it is the session's fault
	lasting bool // the session goes on
}

func cellOf(point string, fault smtptest.Fault) faultCell {
	refusal := fault == smtptest.FaultTemporary || fault == smtptest.FaultPermanent
	c := map[string]faultCell{
		smtptest.Greeting: {step: "ehlo", session: true},
		smtptest.EHLO:     {step: "ehlo", session: true},
		smtptest.Upgrade:  {step: "starttls", session: true},
		smtptest.Auth:     {step: "auth", session: true},
		smtptest.MailFrom: {step: "from", lasting: refusal},
		smtptest.RcptTo:   {step: "recipient", lasting: refusal},
		smtptest.Data:     {step: "data", lasting: refusal},
		smtptest.Body:     {step: "data", lasting: refusal},
		smtptest.Quit:     {want: "ok", lasting: true},
	}[point]
	switch {
	case c.want != "":
		return c
	case c.session:
		c.want = fmt.Sprintf(atSession[fault], c.step)
	default:
		c.want = fmt.Sprintf(atMail[fault], c.step)
	}
	if point == smtptest.Auth {
		c.want = strings.Replace(c.want, "550", "535", 1)
	}
	if point == smtptest.Data {
		c.want = strings.Replace(c.want, "354", "250", 1)
	}
	return c
}

// TestCarryFaults has the first of three mails meet each fault at each point. It gets what it deserves,
// and the others are not affected, but untried if no session came about.
func TestCarryFaults(t *testing.T) {
	ca := newCA(t)
	cert, err := ca.Issue(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), hostName)
	if err != nil {
		t.Fatal(err)
	}
	for _, point := range smtptest.Points() {
		for _, fault := range smtptest.Faults() {
			for _, pipelining := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/%v", point, fault, pipelining), func(t *testing.T) {
					t.Parallel()
					meetFault(t, ca, cert, point, fault, pipelining)
				})
			}
		}
	}
}

func meetFault(t *testing.T, ca *smtptest.CA, cert *tls.Certificate, point string, fault smtptest.Fault, pipelining bool) {
	script := smtptest.FaultScript(point, fault, cert)
	script.Pipelining = pipelining
	script.Answers[point] = smtptest.First(1, script.Answers[point])
	h := startHostile(t, script)
	o := delivery.Options{
		Roots: ca.Pool(), Dialer: redirect{h.Addr(), nil}, CarryStepTimeout: 20 * time.Second, FinalDotTimeout: 20 * time.Second,
	}
	if fault == smtptest.FaultStall {
		o.CarryStepTimeout, o.FinalDotTimeout = 300*time.Millisecond, 300*time.Millisecond
	}
	transport := delivery.New(o)
	want := cellOf(point, fault)
	within(t, 5*time.Second, func() {
		all := carry(t.Context(), t, transport, stored(tlsRoute("587"), 1, 1), letters(3))
		transport.Close()
		others, sent, connections := "ok, ok", "mail1 mail2", 2
		switch {
		case want.session:
			others, sent, connections = "untried, untried", "", 1
		case want.want == "ok":
			sent, connections = "mail0 mail1 mail2", 1
		case want.lasting:
			connections = 1
		}
		got := fates(all)
		if point == smtptest.Greeting && fault == smtptest.FaultReset {
			got = strings.Replace(got, "dial", "ehlo", 1) // the RST may come as soon as that
		}
		if got != want.want+", "+others {
			t.Errorf("got %s, want %s, %s", got, want.want, others)
		}
		if got := ids(h.Messages()); got != sent {
			t.Errorf("the server took %q, not %q", got, sent)
		}
		if h.Connections() != connections {
			t.Errorf("%d connections, not %d", h.Connections(), connections)
		}
	})
}

// TestCarryBounded: an endless reply ends a mail long before its time is up, and holds little.
func TestCarryBounded(t *testing.T) {
	for _, point := range []string{smtptest.MailFrom, smtptest.RcptTo, smtptest.Data, smtptest.Body} {
		for _, fault := range []smtptest.Fault{smtptest.FaultEndlessLine, smtptest.FaultEndlessReply} {
			for _, pipelining := range []bool{true, false} {
				script := smtptest.FaultScript(point, fault, nil)
				script.Pipelining = pipelining
				h := startHostile(t, script)
				transport := newTransport(t, delivery.Options{CarryStepTimeout: 5 * time.Second, FinalDotTimeout: 5 * time.Second})
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				var all []emailprovider.Delivery
				within(t, 3*time.Second, func() {
					all = carry(t.Context(), t, transport, stored(plainRoute(h.Addr()), 1, 1), letters(3))
				})
				runtime.ReadMemStats(&after)
				if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
					t.Errorf("%s, %s: allocated %d bytes", point, fault, grown)
				}
				if got := fates(all); strings.Count(got, "0 temporary") != 3 {
					t.Errorf("%s, %s: %s", point, fault, got)
				}
			}
		}
	}
}

// TestCarryKept carries a hundred mails in ten calls over one session.
func TestCarryKept(t *testing.T) {
	s := startServer(t, smtptest.Options{Mode: smtptest.ImplicitTLS, DemandAuth: true})
	s.SetPassword(user, password)
	via := stored(withPassword(plainRoute(s.Addr())), 7, 1)
	via.SMTP.TLS = true
	transport := newTransport(t, delivery.Options{Roots: s.CA().Pool()})
	mails := letters(100)
	var all []emailprovider.Delivery
	for ten := range slices.Chunk(mails, 10) {
		all = append(all, carry(t.Context(), t, transport, via, ten)...)
	}
	for i, d := range all {
		want := "from recipient data"
		if i == 0 {
			want = "dial tls ehlo auth from recipient data"
		}
		var steps []string
		for _, step := range d.Steps {
			if step.Took <= 0 {
				t.Errorf("mail %d: %s took no time", i, step.Step)
			}
			steps = append(steps, string(step.Step))
		}
		if fate(d) != "ok" || strings.Join(steps, " ") != want || d.Started.IsZero() || d.CertificateExpires.IsZero() == (i == 0) {
			t.Errorf("mail %d: %+v", i, d)
		}
		if diff := cmp.Diff([]emailprovider.Verdict{{}}, d.Verdicts); diff != "" {
			t.Error(diff)
		}
	}
	if len(s.Mails()) != 100 || s.Connections() != 1 || len(s.Attempts()) != 1 || s.Resets() != 99 {
		t.Errorf("%d mails, %d connections, %d attempts, %d RSETs", len(s.Mails()), s.Connections(), len(s.Attempts()), s.Resets())
	}
	for i, m := range s.Mails() {
		if m.Session != 1 || m.Version != 1 || !slices.Equal(m.To, mails[i].To) || !strings.HasSuffix(string(m.Data), "\r\n.dot\r\n") {
			t.Errorf("%+v", m)
		}
	}
}

// TestCarryStopped wants no more after two of four mails.
func TestCarryStopped(t *testing.T) {
	for _, pipelining := range []bool{true, false} {
		server := startHostile(t, smtptest.Script{Pipelining: pipelining})
		transport := newTransport(t, delivery.Options{})
		via := stored(plainRoute(server.Addr()), 1, 1)
		if got := fates(carryUpTo(t.Context(), t, transport, via, letters(4), 2)); got != "ok, ok, untried, untried" {
			t.Errorf("pipelining %t: %s", pipelining, got)
		}
		// What was said of the third must not become part of another mail.
		if got := fates(carry(t.Context(), t, transport, via, letters(2))); got != "ok, ok" || len(server.Messages()) != 4 {
			t.Errorf("pipelining %t: afterwards %s, the server has %d", pipelining, got, len(server.Messages()))
		}
		if want := map[bool]int{true: 2, false: 1}[pipelining]; server.Connections() != want {
			t.Errorf("pipelining %t: %d connections, want %d", pipelining, server.Connections(), want)
		}
	}
}

// TestCarryVerdicts refuses some recipients and all of them.
func TestCarryVerdicts(t *testing.T) {
	refusing := func(w io.Writer, line string) error {
		switch {
		case strings.Contains(line, "never"):
			return smtptest.Say("550 5.1.1 unknown\r\n")(w, line)
		case strings.Contains(line, "later"):
			return smtptest.Say("450 4.2.1 later\r\n")(w, line)
		}
		return smtptest.Say("251 2.1.5 forwarding\r\n")(w, line)
	}
	never := &emailprovider.DeliveryError{Step: emailprovider.StepRecipient, Code: 550, Text: "5.1.1 unknown"}
	later := &emailprovider.DeliveryError{Step: emailprovider.StepRecipient, Code: 450, Text: "4.2.1 later", Temporary: true}
	mails := letters(5)
	mails[0].Recipients = []string{"never@example.org", "a@example.org", "later@example.org"}
	mails[1].Recipients = []string{"later@example.org", "never@example.org"}
	mails[2].Recipients = []string{"never@example.org"}
	mails[4].Recipients = []string{"b@example.org", "never@example.org"}
	want := []emailprovider.Delivery{
		{Verdicts: []emailprovider.Verdict{{Refused: never}, {}, {Refused: later}}},
		{Verdicts: []emailprovider.Verdict{{Refused: later}, {Refused: never}}, Failed: later},
		{Verdicts: []emailprovider.Verdict{{Refused: never}}, Failed: never},
		{Verdicts: []emailprovider.Verdict{{}}},
		{Verdicts: []emailprovider.Verdict{{}, {Refused: never}}},
	}
	for _, pipelining := range []bool{true, false} {
		script := answers(smtptest.RcptTo, refusing)
		script.Pipelining = pipelining
		h := startHostile(t, script)
		all := carry(t.Context(), t, newTransport(t, delivery.Options{}), stored(plainRoute(h.Addr()), 1, 1), mails)
		if diff := cmp.Diff(want, all, cmpopts.IgnoreFields(emailprovider.Delivery{}, "Started", "Steps")); diff != "" {
			t.Errorf("pipelining %v:\n%s", pipelining, diff)
		}
		if h.Connections() != 1 || ids(h.Messages()) != "mail0 mail3 mail4" {
			t.Errorf("%d connections, %s", h.Connections(), ids(h.Messages()))
		}
	}
}
