package app_test

import (
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// failovers has replicas in processes of their own under load, and kills them and their primaries.
type failovers struct {
	t       *testing.T
	servers *servers
	inbox   *smtptest.Hostile
	gate    *gate // of the inbox
	keyset  string
	*journal

	mu       sync.Mutex
	children []*child
	folders  []string

	kills    int             // of replicas
	times    int             // that a standby took over
	held     map[string]bool // mails that were being sent when a replica was killed, or after a lease was outlived
	recovery time.Duration
	takeover time.Duration // until all mails were delivered that a killed replica may have had
}

func newFailovers(t *testing.T, asynchronous bool) *failovers {
	t.Helper()
	f := &failovers{
		t: t, servers: startServers(t, asynchronous), gate: new(gate), held: map[string]bool{},
		keyset: filepath.Join(t.TempDir(), "keyset.json"),
	}
	f.inbox = hostile(t, smtptest.Script{Answers: map[string]smtptest.Answer{smtptest.RcptTo: f.gate.answer}})
	f.journal = newJournal(t, f.any)
	for range 3 {
		dir := filepath.Join(t.TempDir(), "data")
		f.children, f.folders = append(f.children, f.start(dir)), append(f.folders, dir)
	}
	f.load(f.inbox.Addr(), 4, 6)
	return f
}

// answer takes a recipient when the gate is open.
func (g *gate) answer(w io.Writer, _ string) error {
	g.wait()
	_, err := io.WriteString(w, "250 2.1.5 fine\r\n")
	return err
}

// start starts a replica on a data folder.
func (f *failovers) start(dir string) *child {
	f.t.Helper()
	writeReplicaFile(f.t, dir, f.servers.url(), f.keyset)
	return startChild(f.t, f.client, dir, "replica", adminToken)
}

func (f *failovers) any() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.children[rand.N(len(f.children))].url
}

func (f *failovers) urls() (all []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.children {
		all = append(all, c.url)
	}
	return all
}

// mails returns all mails in these states, by id; all there are if none is given.
func (f *failovers) mails(states ...outbox.State) map[string]outbox.Message {
	f.t.Helper()
	all, err := f.servers.db().Messages(f.t.Context(), instance.Default, outbox.Filter{Limit: 1 << 30, States: states})
	f.servers.must(err)
	byID := map[string]outbox.Message{}
	for _, m := range all {
		byID[m.ID] = m
	}
	return byID
}

// sending returns the mails that are being sent.
func (f *failovers) sending() map[string]bool {
	ids := map[string]bool{}
	for id := range f.mails(outbox.Sending) {
		ids[id] = true
	}
	return ids
}

// killReplica kills one that is sending, as all are, starts it again, and waits until the mails that it may have
// had were delivered.
func (f *failovers) killReplica() {
	f.t.Helper()
	f.calm.Store(true) // a new provider is tried over one session first
	defer f.calm.Store(false)
	f.more(100, soon)
	f.gate.shut()
	defer f.gate.open()
	eventually(f.t, soon, "sending through all replicas", func() bool {
		return f.gate.waiting() > (len(f.children)-1)*outbox.DefaultSessions
	})
	i := f.kills % len(f.children)
	f.children[i].kill()
	killed := time.Now()
	f.kills++
	f.gate.open()
	left := f.sending()
	maps.Copy(f.held, left)
	again := f.start(f.folders[i])
	f.mu.Lock()
	f.children[i] = again
	f.mu.Unlock()
	eventually(f.t, soon, "taking over the mails of a killed replica", func() bool {
		open := 0
		for id := range f.mails(outbox.Queued, outbox.Sending) {
			if left[id] {
				open++
			}
		}
		return open == 0
	})
	f.takeover = max(f.takeover, time.Since(killed))
}

// failOver kills the primary under load, with a standby that has been away for a moment before, promotes that,
// and waits until all replicas go on.
func (f *failovers) failOver() {
	f.t.Helper()
	s := f.servers
	f.more(200, soon)
	s.must(s.standby().Kill(f.t.Context()))
	f.more(100, time.Second) // which nobody can be told of, if commits wait
	s.must(s.now().Kill(f.t.Context()))
	killed := time.Now()
	s.must(s.standby().StartAgain(f.t.Context()))
	s.takeOver()
	f.times++
	f.recovered(f.urls())
	out := time.Since(killed)
	f.recovery = max(f.recovery, out)
	if out > replicaLease*2/3 { // heartbeats are missed
		maps.Copy(f.held, f.sending())
	}
}

// finish ends the load, waits until every mail is delivered, and judges.
func (f *failovers) finish() (v verdict, duplicates, unexplained int) {
	f.t.Helper()
	f.stop()
	eventually(f.t, soon, "delivering all mails", func() bool { return len(f.mails(outbox.Queued, outbox.Sending)) == 0 })
	for _, c := range f.children {
		c.stop()
	}
	v = f.judge(f.servers.db())
	seen := bodies(f.inbox)
	for id := range f.mails() {
		n := seen[id]
		if n == 0 {
			v.lost++ // it says that it is delivered
		}
		duplicates += max(0, n-1)
		if !f.held[id] {
			unexplained += max(0, n-1)
		}
	}
	return v, duplicates, unexplained
}

// TestFailover kills primaries and replicas under load. Nothing that was acknowledged is lost, nothing is
// there that was refused, and mails arrive twice only if a replica was killed that was sending them.
func TestFailover(t *testing.T) {
	t.Parallel()
	f := newFailovers(t, false)
	rounds := atLength(1, 5)
	for round := range rounds {
		f.failOver()
		if round%2 == 0 {
			f.killReplica()
		}
		if round+1 < rounds {
			f.servers.addStandby(false)
		}
	}
	v, duplicates, unexplained := f.finish()
	t.Logf("REL failover failovers=%d replica_kills=%d %v duplicates=%d held=%d unexplained=%d slowest_ms=%d recovery_ms=%d takeover_ms=%d lease_ms=%d",
		f.times, f.kills, v, duplicates, len(f.held), unexplained, f.slowest.Milliseconds(), f.recovery.Milliseconds(),
		f.takeover.Milliseconds(), replicaLease.Milliseconds())
	if !v.clean() || unexplained > 0 {
		t.Error("the promise is broken")
	}
	if v.unknown+v.refused == 0 || v.changes < 100 || v.mails < 100 {
		t.Error("it was hardly looked at")
	}
	if f.takeover > replicaLease+time.Second+slack {
		t.Errorf("mails of a killed replica were delivered after %s", f.takeover)
	}
}

// TestFailoverIsMeasured sees that the test above would notice changes that only one server has.
func TestFailoverIsMeasured(t *testing.T) {
	t.Parallel()
	f := newFailovers(t, true)
	f.failOver()
	f.stop()
	v := f.judge(f.servers.db())
	t.Logf("with commits that wait for no standby: %v", v)
	if v.lost == 0 {
		t.Error("nothing was lost")
	}
}
