package app_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// entry is one change or mail that somebody has asked for.
type entry struct {
	op       string // its name, which goes along with it
	kind     string
	provider string
	url      string // of the replica that was asked last
	outcome  outcome
	sequence uint64    // of a change that was made
	mail     string    // id of a mail that was accepted
	idle     bool      // it was so already
	began    time.Time // of its last call
	ended    time.Time
}

// journal asks replicas for changes and mails, writes down what they answer, and holds the database to it.
type journal struct {
	t        *testing.T
	client   *http.Client
	replicas func() string // URL of one of them

	calm    atomic.Bool // the same provider stays active
	ops     atomic.Int64
	mu      sync.Mutex
	entries map[string]*entry
	slowest time.Duration
	odd     []string
	stopped chan struct{}
	workers sync.WaitGroup
}

func newJournal(t *testing.T, replicas func() string) *journal {
	j := &journal{
		t: t, replicas: replicas, entries: map[string]*entry{}, stopped: make(chan struct{}),
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	t.Cleanup(j.client.CloseIdleConnections)
	return j
}

// begin opens an entry.
func (j *journal) begin(kind, provider string) *entry {
	e := &entry{op: fmt.Sprintf("op-%d", j.ops.Add(1)), kind: kind, provider: provider, outcome: notMade}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries[e.op] = e
	return e
}

// ask makes the call of an entry, once more if it was made before: it is unknown then until it is made.
func (j *journal) ask(e *entry, verb, path, body string) (answer string) {
	began, url := time.Now(), j.replicas()
	status, answer, err := j.call(url, e.op, verb, path, body)
	result := notMade
	switch {
	case err != nil, strings.Contains(answer, "MAILKEEP-OUTCOME"):
		result = unknown
	case status == http.StatusOK:
		result = made
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e.url, e.began, e.ended = url, began, time.Now()
	if result == made || e.outcome != unknown {
		e.outcome = result
	}
	if err == nil {
		j.slowest = max(j.slowest, e.ended.Sub(e.began))
	}
	if result == notMade && status != http.StatusServiceUnavailable && status != http.StatusConflict {
		j.odd = append(j.odd, fmt.Sprintf("%s: %d %s", e.kind, status, answer))
	}
	return answer
}

// call makes a call over REST. The op is what events show as the user agent.
func (j *journal) call(url, op, verb, path, body string) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(j.t.Context()), verb, url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("X-User-Agent", op)
	res, err := j.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// change asks for a change of a provider.
func (j *journal) change(kind, provider, verb, path, body string) *entry {
	e := j.begin(kind, provider)
	answer := j.ask(e, verb, path, strings.ReplaceAll(body, "$op", e.op))
	if e.outcome != made {
		return e
	}
	var said struct {
		ID      string `json:"id"`
		Details struct {
			Sequence string `json:"sequence"`
		} `json:"details"`
	}
	_ = json.Unmarshal([]byte(answer), &said) // what is missing is complained of
	sequence, _ := strconv.ParseUint(said.Details.Sequence, 10, 64)
	j.mu.Lock()
	defer j.mu.Unlock()
	e.sequence, e.provider = sequence, cmp.Or(e.provider, said.ID)
	return e
}

// settings are those of a provider at a mail server, with the op for its description.
func settingsAt(host string) string {
	return fmt.Sprintf(`"senderAddress":"s@example.com","senderName":"S","host":%q,"user":%q,"description":"$op"`, host, user)
}

func (j *journal) add(host string) *entry {
	return j.change("add", "", "POST", "/admin/v1/email/smtp", `{`+settingsAt(host)+`,"password":"p"}`)
}

func (j *journal) update(id, host string) *entry {
	return j.change("update", id, "PUT", "/admin/v1/email/smtp/"+id, `{`+settingsAt(host)+`}`)
}

func (j *journal) password(id string) *entry {
	return j.change("password", id, "PUT", "/admin/v1/email/smtp/"+id+"/password", `{"password":"$op"}`)
}

func (j *journal) activate(id string) *entry {
	return j.change("activate", id, "POST", "/admin/v1/email/"+id+"/_activate", `{}`)
}

func (j *journal) remove(id string) *entry {
	return j.change("remove", id, "DELETE", "/admin/v1/email/"+id, ``)
}

// mustAdd adds a provider when nothing stands in the way.
func (j *journal) mustAdd(host string) (id string) {
	j.t.Helper()
	e := j.add(host)
	if e.outcome != made {
		j.t.Fatalf("a provider can't be added: %v", j.odd)
	}
	return e.provider
}

// send asks for a mail, again and again with its key until it is accepted or the load ends.
func (j *journal) send() {
	for e := j.begin("mail", ""); ; {
		answer := j.ask(e, "POST", "/v1/messages", fmt.Sprintf(`{"to":["r@example.com"],"text":"x","idempotencyKey":%q}`, e.op))
		if e.outcome == made {
			j.mu.Lock()
			e.mail = idIn(answer)
			j.mu.Unlock()
		}
		if e.outcome == made || !j.pause(sendPause) {
			return
		}
	}
}

// What callers wait between two calls. A provider that becomes active makes all sessions begin anew, and any
// change in an instance has its mails claimed once more.
const (
	sendPause   = 60 * time.Millisecond
	changePause = 60 * time.Millisecond
	switchPause = 500 * time.Millisecond
)

// pause waits, and reports whether to go on.
func (j *journal) pause(d time.Duration) bool {
	select {
	case <-j.stopped:
		return false
	case <-time.After(d):
		return true
	}
}

// load has callers make changes of providers of their own at the host, let two providers be active by turns,
// and send mails, until stop.
func (j *journal) load(host string, owners, senders int) {
	j.t.Helper()
	active := [2]string{j.mustAdd(host), j.mustAdd(host)}
	if e := j.activate(active[0]); e.outcome != made {
		j.t.Fatalf("no provider can be made active: %v", j.odd)
	}
	for range owners {
		id := j.mustAdd(host)
		j.again(changePause, func() { j.own(id, host) })
	}
	turn := 0
	j.again(switchPause, func() {
		if !j.calm.Load() {
			turn++
			j.activate(active[turn%2])
		}
	})
	for range senders {
		j.again(sendPause, j.send)
	}
}

// again does something until stop.
func (j *journal) again(pause time.Duration, what func()) {
	j.workers.Go(func() {
		for {
			what()
			if !j.pause(pause) {
				return
			}
		}
	})
}

// own makes a change of a provider that nobody else changes.
func (j *journal) own(id, host string) {
	switch rand.N(5) {
	case 0:
		if e := j.add(host); e.outcome == made {
			j.remove(e.provider)
		}
	case 1, 2:
		j.password(id)
	default:
		j.update(id, host)
	}
}

// stop ends the load.
func (j *journal) stop() {
	close(j.stopped)
	j.workers.Wait()
}

// count returns how many entries are so.
func (j *journal) count(is func(*entry) bool) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.entries {
		if is(e) {
			n++
		}
	}
	return n
}

// slowestYet is the longest that a call has taken to be answered.
func (j *journal) slowestYet() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.slowest
}

// acknowledged is how many changes and mails were.
func (j *journal) acknowledged() int {
	return j.count(func(e *entry) bool { return e.outcome == made })
}

// more waits until so many more were acknowledged, or the time is over.
func (j *journal) more(n int, patience time.Duration) {
	for enough, deadline := j.acknowledged()+n, time.Now().Add(patience); j.acknowledged() < enough && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}

// recovered waits until each replica has acknowledged a change and a mail that it was asked for after the
// call, and returns how long that took.
func (j *journal) recovered(urls []string) time.Duration {
	j.t.Helper()
	since := time.Now()
	for _, url := range urls {
		for _, mail := range []bool{false, true} {
			eventually(j.t, soon, "acknowledging again", func() bool {
				return j.count(func(e *entry) bool {
					return e.outcome == made && e.url == url && e.began.After(since) && (e.kind == "mail") == mail
				}) > 0
			})
		}
	}
	return time.Since(since)
}

// verdict is what the database says of a journal.
type verdict struct {
	changes, mails, unknown, refused int

	lost        int // acknowledged, and not there
	falseOK     int // acknowledged, and another is there in its place
	falseErrors int // refused, and there
	twice       int // there twice
	gaps        int // sequences
	wrong       int // providers that are not what the changes made of them
	late        int // answers

	odd []string // answers that nobody expects
}

func (v verdict) clean() bool {
	return v.lost+v.falseOK+v.falseErrors+v.twice+v.gaps+v.wrong+v.late+len(v.odd) == 0
}

func (v verdict) String() string {
	return fmt.Sprintf("changes=%d mails=%d unknown=%d refused=%d lost_acked=%d false_ok=%d false_errors=%d twice=%d gaps=%d wrong=%d late=%d odd=%q",
		v.changes, v.mails, v.unknown, v.refused, v.lost, v.falseOK, v.falseErrors, v.twice, v.gaps, v.wrong, v.late, v.odd)
}

// judge holds the database to what was answered. Nothing is under way any more.
func (j *journal) judge(db *sqlstore.DB) (v verdict) {
	j.t.Helper()
	ctx := context.WithoutCancel(j.t.Context())
	events, err := db.Events(ctx, instance.Default, "", 0, 1<<30)
	list, err2 := db.List(ctx, instance.Default, emailprovider.Query{Limit: 1 << 30})
	mails, err3 := db.Messages(ctx, instance.Default, outbox.Filter{Limit: 1 << 30})
	if err := errors.Join(err, err2, err3); err != nil {
		j.t.Fatal(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	bySequence, byOp := map[uint64]emailprovider.Event{}, map[string][]emailprovider.Event{}
	for i, e := range events {
		if e.Sequence != uint64(i+1) {
			v.gaps++
		}
		bySequence[e.Sequence] = e
		byOp[e.By.UserAgent] = append(byOp[e.By.UserAgent], e)
	}
	if list.Sequence != uint64(len(events)) {
		v.gaps++
	}
	byKey := map[string][]outbox.Message{}
	for _, m := range mails {
		byKey[m.IdempotencyKey] = append(byKey[m.IdempotencyKey], m)
	}
	for _, e := range j.entries {
		if e.kind == "mail" {
			v.mail(e, byKey[e.op])
		} else {
			v.change(e, byOp[e.op], bySequence[e.sequence])
		}
	}
	v.wrong, v.odd = j.differing(list.Providers, events), j.odd
	if j.slowest > answerTime+slack {
		v.late++
	}
	return v
}

// mail judges one mail by what there is with its key.
func (v *verdict) mail(e *entry, there []outbox.Message) {
	switch e.outcome {
	case made:
		v.mails++
		if len(there) == 0 {
			v.lost++
		} else if there[0].ID != e.mail {
			v.falseOK++
		}
	case notMade:
		v.refused++
		v.falseErrors += len(there)
	default:
		v.unknown++
	}
	v.twice += max(0, len(there)-1)
}

// change judges one change by its events, and the one that has its sequence.
func (v *verdict) change(e *entry, its []emailprovider.Event, at emailprovider.Event) {
	switch e.outcome {
	case made:
		v.changes++
		// A provider that is active already, by a change that was unknown, is not made so once more.
		e.idle = len(its) == 0 && e.kind == "activate" && at.Type == emailprovider.EventActivated && at.ProviderID == e.provider
		switch {
		case e.idle:
		case len(its) == 0:
			v.lost++
		case its[0].Sequence != e.sequence || its[0].ProviderID != e.provider:
			v.falseOK++
		}
	case notMade:
		v.refused++
		v.falseErrors += len(its)
	default:
		v.unknown++
	}
	v.twice += max(0, len(its)-1)
}

// differing counts the providers that are not what the events made of them.
func (j *journal) differing(providers []emailprovider.Provider, events []emailprovider.Event) (n int) {
	type state struct {
		active      bool
		description string
		version     uint64
	}
	want := map[string]*state{}
	for _, e := range events {
		p := want[e.ProviderID]
		switch e.Type {
		case emailprovider.EventAdded:
			want[e.ProviderID] = &state{description: e.By.UserAgent, version: e.CredentialVersion}
		case emailprovider.EventUpdated:
			p.description = e.By.UserAgent
		case emailprovider.EventPasswordChanged:
			if p.version++; p.version != e.CredentialVersion {
				n++
			}
		case emailprovider.EventActivated:
			for _, other := range want {
				other.active = other == p
			}
		case emailprovider.EventRemoved:
			delete(want, e.ProviderID)
		}
	}
	for _, p := range providers {
		w, got := want[p.ID], state{p.State == emailprovider.Active, p.Description, p.Credential.Version}
		if w == nil || *w != got {
			n++
		}
		delete(want, p.ID)
	}
	return n + len(want)
}
