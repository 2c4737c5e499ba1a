package app_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// maxGrowth is what a hostile server may cost, in KiB.
const maxGrowth = 8 << 10

// growth returns by how many KiB the memory of this process grew at its highest point while f ran.
func growth(t *testing.T, f func()) int {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // what is garbage is not what f needs
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // sets VmHWM back; see proc(5)
		t.Skip("no peak of memory to be had: ", err)
	}
	before := memory(t, "VmRSS:")
	f()
	return memory(t, "VmHWM:") - before
}

func memory(t *testing.T, name string) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), name)
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// TestFaultsAreBounded has a mail meet each endless answer, one after the other.
func TestFaultsAreBounded(t *testing.T) {
	b := newFaultBed(t)
	s := b.start(t, 2*time.Second, nil)                                       // a client without bounds reads for as long
	b.meet(t, s, cell{smtptest.Quit, smtptest.FaultClose, true, "delivered"}) // what is needed anyway
	peers, most, at := 0, 0, cell{}
	for _, c := range cells(t) {
		if c.fault != smtptest.FaultEndlessLine && c.fault != smtptest.FaultEndlessReply {
			continue
		}
		peers++
		if grown := growth(t, func() { b.meet(t, s, c) }); grown > most {
			most, at = grown, c
		}
	}
	t.Logf("REL hostile_memory peers=%d most_kib=%d bound_kib=%d worst=%q", peers, most, maxGrowth, at)
	if most > maxGrowth {
		t.Errorf("%s cost %d KiB", at, most)
	}
}

// TestGrowthIsMeasured sees that the test above would notice a client without bounds.
func TestGrowthIsMeasured(t *testing.T) {
	server, err := smtptest.StartHostile(smtptest.FaultScript(smtptest.EHLO, smtptest.FaultEndlessReply, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	grow := func(deadline time.Duration) {
		conn, err := net.Dial("tcp", server.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(deadline))
		if client, err := smtp.NewClient(conn, "127.0.0.1"); err == nil {
			_ = client.Hello("client.example") // it reads until its deadline
		}
		_ = conn.Close()
	}
	var grown int
	for deadline := 300 * time.Millisecond; grown <= maxGrowth && deadline < 10*time.Second; deadline *= 2 {
		grown = growth(t, func() { grow(deadline) })
	}
	if grown <= maxGrowth {
		t.Errorf("net/smtp grew by %d KiB only", grown)
	}
}

// goodbyes is what servers say to QUIT, one after the other.
func goodbyes() smtptest.Answer {
	var n atomic.Int64
	return func(w io.Writer, line string) error {
		fault := smtptest.Faults()[int(n.Add(1))%len(smtptest.Faults())]
		if fault == smtptest.FaultStall {
			fault = smtptest.FaultClose // each would take its second
		}
		return smtptest.FaultScript(smtptest.Quit, fault, nil).Answers[smtptest.Quit](w, line)
	}
}

// part sends mails, each over a session of its own whose QUIT fails, and returns how many QUITs there
// were and how many mails the server has got more than once.
func part(t *testing.T, mails int, wrap func(app.Store) app.Store) (quits, duplicates int) {
	server, err := smtptest.StartHostile(smtptest.Script{Answers: map[string]smtptest.Answer{smtptest.Quit: goodbyes()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	c := config(t)
	c.WrapStore = wrap
	s := start(t, c)
	r := &mailRun{t: t, s: s, wire: s.wires(http1)[0], provider: s.addProvider(t, server.Addr(), "p")}
	for range mails {
		id, _ := r.call("SendMessage", `{"to":["r@example.com"],"text":"x"}`).at("id").(string)
		r.until(id, "MESSAGE_STATE_DELIVERED")
		r.call("UpdateEmailProviderSMTPPassword", `{"id":"$provider","password":"p"}`) // ends the session
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for _, line := range server.Lines() {
		if line == "QUIT" {
			quits++
		}
	}
	seen := bodies(server)
	if len(seen) != mails {
		t.Errorf("%d mails arrived, want %d", len(seen), mails)
	}
	for _, n := range seen {
		duplicates += n - 1
	}
	return quits, duplicates
}

// TestQuitFails wants no mail twice because a session ended badly.
func TestQuitFails(t *testing.T) {
	quits, duplicates := part(t, 100, nil)
	t.Logf("REL quit mails=100 failed_quits=%d duplicates=%d", quits, duplicates)
	if quits < 100 || duplicates != 0 {
		t.Errorf("%d QUITs, %d duplicates", quits, duplicates)
	}
}

// doubting is a store that does not take a first delivery for one, as if a bad QUIT spoke against it.
type doubting struct{ app.Store }

func (d doubting) Settle(ctx context.Context, all []outbox.Settlement) ([]outbox.Lease, error) {
	for i := range all {
		if s := &all[i]; s.State == outbox.Delivered && s.Attempt.Number == 1 {
			s.State, s.Due, s.Recipients = outbox.Queued, s.At, slices.Clone(s.Recipients)
			for i := range s.Recipients {
				s.Recipients[i].State = outbox.Pending
			}
		}
	}
	return d.Store.Settle(ctx, all)
}

// TestQuitIsMeasured sees that the test above would notice mails that are sent again.
func TestQuitIsMeasured(t *testing.T) {
	if _, duplicates := part(t, 2, func(s app.Store) app.Store { return doubting{s} }); duplicates == 0 {
		t.Error("mails that were sent twice were not noticed")
	}
}
