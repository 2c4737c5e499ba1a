package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// fate is what a mail of a killing is sent for.
type fate int

const (
	arrives   fate = iota
	refused        // by the inbox, for good
	waits          // since the inbox refuses it for now
	expires        // before the inbox would take it
	withdrawn      // while it waits
	chased         // is cancelled right after it was sent, if that still goes
	someFates      // how many there are
)

// promise is what is known of a mail that was acknowledged.
type promise struct {
	fate      fate
	cancelled bool // that was acknowledged too
	unsure    bool // cancelling it was cut off
}

// killing sends mails through a service that is killed again and again.
type killing struct {
	t      *testing.T
	dir    string
	flaw   string
	inbox  *smtptest.Hostile
	client *http.Client

	keys     atomic.Int64 // mails that were begun to be sent
	unheard  chan int64   // keys of mails whose call was cut off, to be sent again
	mu       sync.Mutex
	promised map[string]*promise
	kills    int
	sending  map[string]int       // kills at which a mail was being sent
	at       map[outbox.State]int // mails at kills

	lost, duplicates, unexplained int
	wrong                         []string
}

func newKilling(t *testing.T, flaw string) *killing {
	t.Helper()
	k := &killing{
		t: t, dir: filepath.Join(t.TempDir(), "data"), flaw: flaw, unheard: make(chan int64, 1000), client: newClient(t),
		promised: map[string]*promise{}, sending: map[string]int{}, at: map[outbox.State]int{},
	}
	var err error
	if k.inbox, err = smtptest.StartHostile(smtptest.Script{Answers: map[string]smtptest.Answer{smtptest.RcptTo: judge}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.inbox.Close() })
	return k
}

// judge is what the inbox says to a recipient.
func judge(w io.Writer, line string) error {
	switch {
	case strings.Contains(line, "<later"):
		line = "451 4.7.1 later\r\n"
	case strings.Contains(line, "<never"):
		line = "550 5.1.1 never\r\n"
	default:
		line = "250 2.1.5 fine\r\n"
	}
	_, err := io.WriteString(w, line)
	return err
}

func (k *killing) start() *child {
	k.t.Helper()
	return startChild(k.t, k.client, k.dir, k.flaw, adminToken)
}

// post makes a call over REST and returns the answer.
func (k *killing) post(c *child, path, body string) (status int, answer string, err error) {
	return c.call(http.MethodPost, path, body)
}

// must makes a call that succeeds and returns the id in its answer.
func (k *killing) must(c *child, path, body string) (id string) {
	k.t.Helper()
	status, answer, err := k.post(c, path, body)
	if err != nil || status != http.StatusOK {
		k.t.Fatalf("%s: %d %s %v", path, status, answer, err)
	}
	return idIn(answer)
}

func idIn(answer string) string {
	_, id, _ := strings.Cut(answer, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	return id
}

// load has many callers send mails until n were acknowledged, or calls fail. What was cut off is sent
// again with its key, as a careful caller does.
func (k *killing) load(c *child, n int) {
	var callers sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	for range 32 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				var key int64
				select {
				case key = <-k.unheard:
				default:
					key = k.keys.Add(1)
				}
				if !k.sendOne(c, key) {
					k.unheard <- key
					return
				}
			}
		})
	}
	callers.Wait()
}

// sendOne sends the mail of a key, and reports whether that was acknowledged.
func (k *killing) sendOne(c *child, key int64) bool {
	what := fate(key % int64(someFates))
	to, more := "r", ""
	switch what {
	case refused:
		to = "never"
	case waits, withdrawn:
		to = "later"
	case expires:
		to, more = "later", `,"expiresIn":"1s"`
	}
	status, answer, err := k.post(c, "/v1/messages", fmt.Sprintf(
		`{"to":["%s%d@example.com"],"text":"x","idempotencyKey":"%d"%s}`, to, key, key, more))
	if err != nil {
		return false
	}
	if status != http.StatusOK {
		k.complain("sending a mail: %d %s", status, answer)
		return true
	}
	p, id := &promise{fate: what}, idIn(answer)
	k.mu.Lock()
	k.promised[id] = p
	k.mu.Unlock()
	if what == withdrawn || what == chased {
		status, answer, err := k.post(c, "/v1/messages/"+id+"/_cancel", "{}")
		if err == nil && status != http.StatusOK && !strings.Contains(answer, "MAILKEEP-STATE") {
			k.complain("cancelling a mail: %d %s", status, answer)
		}
		p.cancelled, p.unsure = err == nil && status == http.StatusOK, err != nil
	}
	return true
}

// kill kills the service when about n more mails were acknowledged, while more are sent, and looks at
// what it has left behind.
func (k *killing) kill(c *child, n int) {
	k.t.Helper()
	loading := make(chan struct{})
	go func() { defer close(loading); k.load(c, 1<<20) }()
	for enough := k.acknowledged() + n; k.acknowledged() < enough; time.Sleep(time.Millisecond) {
		select {
		case <-loading:
			k.t.Fatal("the load has ended by itself")
		default:
		}
	}
	c.kill()
	<-loading
	k.kills++
	for _, m := range k.left() {
		k.at[m.State]++
		if m.State == outbox.Sending {
			k.sending[m.ID]++
		}
	}
}

func (k *killing) complain(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wrong = append(k.wrong, fmt.Sprintf(format, args...))
}

func (k *killing) acknowledged() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.promised)
}

// left returns what a service that is not running has left behind, by id, and counts what is missing.
func (k *killing) left() map[string]outbox.Message {
	k.t.Helper()
	db, err := sqlstore.OpenSQLite(k.t.Context(), filepath.Join(k.dir, "mailkeep.db"), sqlstore.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			k.t.Error(err)
		}
	}()
	all, err := db.Messages(k.t.Context(), instance.Default, outbox.Filter{Limit: 1 << 30})
	if err != nil {
		k.t.Fatal(err)
	}
	byID := map[string]outbox.Message{}
	for _, m := range all {
		byID[m.ID] = m
	}
	if len(byID) != len(all) {
		k.complain("%d mails have %d ids", len(all), len(byID))
	}
	lost := 0
	for id := range k.promised {
		if _, ok := byID[id]; !ok {
			lost++
		}
	}
	k.lost = max(k.lost, lost)
	return byID
}

// finish lets a last service do what is to be done, and judges what came of every mail.
func (k *killing) finish() {
	k.t.Helper()
	c := k.start()
	k.load(c, len(k.unheard))
	k.settle(c)
	c.stop()
	left, seen := k.left(), bodies(k.inbox)
	if got := int64(len(left)); got > k.keys.Load() || got+int64(k.lost) < k.keys.Load() {
		k.complain("%d mails were sent, %d are there and %d lost", k.keys.Load(), got, k.lost)
	}
	for id, p := range k.promised {
		if m, ok := left[id]; ok && m.State != p.state() && (!p.unsure || m.State != outbox.Cancelled) {
			k.complain("a mail to %s, cancelled: %v, is %s (%s)", m.Recipients[0].Address, p.cancelled, m.State, m.Reason)
		}
	}
	for id, n := range seen {
		k.duplicates += n - 1
		k.unexplained += max(0, n-1-k.sending[id])
		if left[id].State != outbox.Delivered {
			k.complain("the inbox has a mail that is %s", left[id].State)
		}
	}
	for id, m := range left {
		if m.State == outbox.Delivered && seen[id] == 0 {
			k.complain("the inbox has not got a mail that is delivered")
		}
	}
}

// state is what must become of a mail.
func (p *promise) state() outbox.State {
	switch {
	case p.cancelled:
		return outbox.Cancelled
	case p.fate == refused:
		return outbox.Failed
	case p.fate == expires:
		return outbox.Expired
	case p.fate == waits || p.fate == withdrawn:
		return outbox.Queued
	}
	return outbox.Delivered
}

// settle waits until nothing is open but what the inbox refuses for now.
func (k *killing) settle(c *child) {
	k.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		busy := 0
		for _, m := range k.list(c, `"states":["MESSAGE_STATE_QUEUED","MESSAGE_STATE_SENDING"]`) {
			p := k.promised[m.ID]
			if m.State == "MESSAGE_STATE_SENDING" || p == nil || p.fate != waits && p.fate != withdrawn {
				busy++
			}
		}
		if busy == 0 {
			return
		}
		if time.Now().After(deadline) {
			k.t.Errorf("%d mails are still on their way", busy)
			return
		}
	}
}

// inList is a mail in a list.
type inList struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

// list returns the mails that match, page by page.
func (k *killing) list(c *child, filter string) (all []inList) {
	k.t.Helper()
	for token := ""; ; {
		status, answer, err := k.post(c, "/v1/messages/_search", fmt.Sprintf(`{"pageSize":1000,"pageToken":"%s",%s}`, token, filter))
		var page struct {
			Messages []inList `json:"messages"`
			Next     string   `json:"nextPageToken"`
		}
		if err == nil {
			err = json.Unmarshal([]byte(answer), &page)
		}
		if err != nil || status != http.StatusOK {
			k.t.Errorf("%d %s %v", status, answer, err)
			return all
		}
		all = append(all, page.Messages...)
		if token = page.Next; token == "" {
			return all
		}
	}
}

// activate has the service send to the inbox.
func (k *killing) activate(c *child) {
	k.t.Helper()
	id := k.must(c, "/admin/v1/email/smtp", fmt.Sprintf(
		`{"senderAddress":"s@example.com","senderName":"S","host":%q,"user":"u","password":"p"}`, k.inbox.Addr()))
	k.must(c, "/admin/v1/email/"+id+"/_activate", "{}")
}

// run kills the service after each number of mails.
func (k *killing) run(rounds ...int) {
	k.t.Helper()
	for i, n := range rounds {
		c := k.start()
		if i == 0 {
			k.activate(c)
		}
		k.kill(c, n)
	}
	k.finish()
	slices.Sort(k.wrong)
	k.t.Logf("REL kill flaw=%q kills=%d mails=%d acknowledged=%d lost=%d wrong=%d duplicates=%d in_flight=%d unexplained=%d at_kills=%v",
		k.flaw, k.kills, k.keys.Load(), len(k.promised), k.lost, len(k.wrong), k.duplicates, k.at[outbox.Sending], k.unexplained, k.at)
}

// TestKill9 kills a service that takes and sends mails of every fate. No mail that was acknowledged is
// lost, each is in the one state that it deserves, and the inbox has a mail twice only if it was being
// sent at a kill.
func TestKill9(t *testing.T) {
	k := newKilling(t, "")
	var rounds []int
	for range 5 {
		rounds = append(rounds, 1000+rand.N(200))
	}
	k.run(rounds...)
	for _, w := range slices.Compact(k.wrong) {
		t.Error(w)
	}
	if len(k.promised) < 5000 || k.lost > 0 || k.unexplained > 0 || k.duplicates > k.at[outbox.Sending] {
		t.Error("the promise is broken")
	}
	for _, state := range outbox.States() {
		if k.at[state] == 0 {
			t.Errorf("no mail was %s when the service was killed", state)
		}
	}
}

// TestKillIsMeasured sees that the test above would notice what it is there for.
func TestKillIsMeasured(t *testing.T) {
	for flaw, noticed := range map[string]func(*killing) bool{
		"hurried":   func(k *killing) bool { return k.lost > 0 },
		"forgetful": func(k *killing) bool { return k.unexplained > 0 },
		"careless":  func(k *killing) bool { return len(k.wrong) > 0 },
	} {
		t.Run(flaw, func(t *testing.T) {
			k := newKilling(t, flaw)
			k.run(150)
			if !noticed(k) {
				t.Error("it was not noticed")
			}
		})
	}
}
