package app_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// setting is what mails go out with. Password and sender are the numbers of the changes that made them.
type setting struct {
	user             string // of the active provider; empty if there is none
	password, sender int
}

// freshReplicas changes providers through one replica and sends mails through others meanwhile. Every mail says
// which change was acknowledged before it was sent, and the inbox what the mail came with: that must be as
// after this change, or a later one.
type freshReplicas struct {
	t        *testing.T
	replicas [][]wire
	inbox    *smtptest.Server

	providers [2]string // their ids
	present   [2]setting
	active    int // of them
	rotations int

	acknowledged, sent, arrived, stale atomic.Int64

	mu        sync.Mutex
	settings  []setting                // after each change, from its begin
	acks      []time.Time              // of each change
	passwords map[smtptest.Attempt]int // numbers of changes, by User and Version
}

const freshReplicaCount = 3

func newFreshReplicas(t *testing.T, wrap func(app.Store) app.Store) *freshReplicas {
	t.Helper()
	f := &freshReplicas{t: t, passwords: map[smtptest.Attempt]int{}}
	var err error
	if f.inbox, err = smtptest.Start(smtptest.Options{DemandAuth: true, OnMail: f.check}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.inbox.Close() })
	url, keyset := pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")
	for range freshReplicaCount {
		c := replica(t, url, keyset)
		c.WrapStore = wrap
		s := start(t, c)
		f.replicas = append(f.replicas, append(s.wires(http1), s.wires(http2)...))
	}
	f.begin(setting{})
	f.acknowledge()
	for i := range f.providers {
		f.add(i)
	}
	return f
}

// try makes a call through a replica.
func (f *freshReplicas) try(replica int, name, body string) answer {
	m := methods()[name]
	wires := f.replicas[replica]
	return wires[rand.N(len(wires))].call(f.t, adminToken, m, message(f.t, string(m.Descriptor.Input().FullName()), body))
}

// change makes a call through any replica and returns the replica.
func (f *freshReplicas) change(name, body string) (replica int, a answer) {
	replica = rand.N(len(f.replicas))
	if a = f.try(replica, name, body); a.code != 0 {
		f.t.Errorf("%s: %v", name, a)
	}
	return replica, a
}

// begin says what mails may go out with from now on, and returns the number of the change.
func (f *freshReplicas) begin(s setting) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settings, f.acks = append(f.settings, s), append(f.acks, time.Time{})
	return len(f.settings) - 1
}

// acknowledge says that nothing may go out any more with what was before the latest change.
func (f *freshReplicas) acknowledge() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acks[len(f.acks)-1] = time.Now()
	f.acknowledged.Store(int64(len(f.acks) - 1))
}

// allow lets the inbox know the next password of a user, for the next change; those before stay good, so that
// a stale one shows itself.
func (f *freshReplicas) allow(user string) (number int, password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	number = len(f.settings)
	password = fmt.Sprintf("password %d", number)
	f.passwords[smtptest.Attempt{User: user, Version: f.inbox.AllowPassword(user, password)}] = number
	return number, password
}

// add adds a provider with a user of its own.
func (f *freshReplicas) add(i int) {
	number, password := f.allow(fmt.Sprintf("user%d", len(f.settings)))
	s := setting{fmt.Sprintf("user%d", number), number, number}
	_, a := f.change("AddEmailProviderSMTP", fmt.Sprintf(
		`{"senderAddress":"s%d@example.com","senderName":"S","host":%q,"user":%q,"password":%q}`, number, f.inbox.Addr(), s.user, password))
	f.providers[i], _ = a.fields.at("id").(string)
	f.present[i] = s
	f.begin(f.settings[len(f.settings)-1]) // the active one is as it was
	f.acknowledge()
}

// checkpoint sends a mail through another replica than the one that has acknowledged the change.
func (f *freshReplicas) checkpoint(changed int) {
	f.acknowledge()
	f.send((changed + 1 + rand.N(len(f.replicas)-1)) % len(f.replicas))
}

// rotate changes the password of the active provider.
func (f *freshReplicas) rotate() {
	s := &f.present[f.active]
	number, password := f.allow(s.user)
	s.password = number
	f.begin(*s)
	method := []string{"UpdateSMTPConfigPassword", "UpdateEmailProviderSMTPPassword"}[number%2]
	replica, _ := f.change(method, fmt.Sprintf(`{"id":%q,"password":%q}`, f.providers[f.active], password))
	f.checkpoint(replica)
	f.rotations++
}

// update changes who mails of the active provider are from.
func (f *freshReplicas) update() {
	s := &f.present[f.active]
	s.sender = len(f.settings)
	f.begin(*s)
	replica, _ := f.change("UpdateEmailProviderSMTP", fmt.Sprintf(`{"id":%q,"senderAddress":"s%d@example.com","senderName":"S","host":%q,"user":%q}`,
		f.providers[f.active], s.sender, f.inbox.Addr(), s.user))
	f.checkpoint(replica)
}

// activate has mails go through the other provider.
func (f *freshReplicas) activate() {
	f.active = 1 - f.active
	f.begin(f.present[f.active])
	replica, _ := f.change("ActivateEmailProvider", fmt.Sprintf(`{"id":%q}`, f.providers[f.active]))
	f.checkpoint(replica)
}

// deactivate leaves no active provider for a moment.
func (f *freshReplicas) deactivate() {
	f.begin(setting{})
	replica, _ := f.change("DeactivateEmailProvider", fmt.Sprintf(`{"id":%q}`, f.providers[f.active]))
	f.checkpoint(replica)
	f.activate()
}

// remove removes the active provider and puts another in its place.
func (f *freshReplicas) remove() {
	f.begin(setting{})
	replica, _ := f.change("RemoveEmailProvider", fmt.Sprintf(`{"id":%q}`, f.providers[f.active]))
	f.checkpoint(replica)
	gone := f.active
	f.activate()
	f.add(gone)
}

// send sends a mail that must come as after what is acknowledged now, or later. It is refused while no provider
// is active.
func (f *freshReplicas) send(replica int) {
	after := int(f.acknowledged.Load())
	a := f.try(replica, "SendMessage", fmt.Sprintf(`{"to":["r@example.com"],"text":"x","subject":"after %d"}`, after))
	switch {
	case a.code == 0:
		f.sent.Add(1)
	case a.id != "MAILKEEP-NOACTIVE" || !f.since(after, func(s setting) bool { return s.user == "" }):
		f.t.Errorf("a mail after change %d is refused: %v", after, a)
	}
}

// since reports whether anything is true of the settings after the changes from a number on.
func (f *freshReplicas) since(number int, holds func(setting) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.settings[number:], holds)
}

// check is what the inbox does with a mail.
func (f *freshReplicas) check(m smtptest.Mail) {
	got := setting{user: m.User}
	var after int
	_, subject, _ := bytes.Cut(m.Data, []byte("Subject: after "))
	if _, err := fmt.Sscan(string(subject), &after); err != nil {
		f.t.Errorf("a mail that nobody sent:\n%s", m.Data)
	}
	if _, err := fmt.Sscanf(m.From, "s%d@example.com", &got.sender); err != nil {
		f.t.Errorf("a mail from %s", m.From)
	}
	f.mu.Lock()
	got.password = f.passwords[smtptest.Attempt{User: m.User, Version: m.Version}]
	f.mu.Unlock()
	if !f.since(after, func(s setting) bool { return s == got }) {
		f.stale.Add(1)
	}
	f.arrived.Add(1)
}

// run makes changes of all kinds, with so many rotations, while others send too; then it waits for all mails.
func (f *freshReplicas) run(rotations int, enough func() bool) {
	f.activate()
	var load sync.WaitGroup
	done := make(chan struct{})
	for i := range 2 * len(f.replicas) {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					f.send(i % len(f.replicas))
				}
			}
		})
	}
	others := []func(){f.update, f.activate, f.update, f.deactivate, f.activate, f.update, f.remove}
	for i := 0; f.rotations < rotations && !enough() && !f.t.Failed(); i++ {
		if f.rotate(); i%5 == 4 {
			others[i/5%len(others)]()
		}
	}
	close(done)
	load.Wait()
	for deadline := time.Now().Add(time.Minute); f.arrived.Load() < f.sent.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("%d of %d mails have arrived", f.arrived.Load(), f.sent.Load())
		}
	}
}

// firstAuths returns how long it took from the acknowledgement of each change of a password to the first login
// with it, 0 if that was before, in ascending order.
func (f *freshReplicas) firstAuths() (took []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := map[int]bool{}
	for _, a := range f.inbox.Attempts() {
		number := f.passwords[smtptest.Attempt{User: a.User, Version: a.Version}]
		if !seen[number] && f.settings[number].password == number { // not one that was added and not used yet
			took = append(took, max(0, a.At.Sub(f.acks[number])))
		}
		seen[number] = true
	}
	slices.Sort(took)
	return took
}

// TestFreshReplicas is the promise with several replicas: the moment any of them has acknowledged a change, the
// next mail that anyone sends through any other goes out as it says.
func TestFreshReplicas(t *testing.T) {
	rotations := atLength(200, 5000)
	f := newFreshReplicas(t, nil)
	started := time.Now()
	f.run(rotations, never)
	took := f.firstAuths()
	ms := func(share int) float64 { return float64(took[(len(took)-1)*share/100].Microseconds()) / 1000 }
	t.Logf("REL fresh_replicas replicas=%d rotations=%d changes=%d mails=%d stale=%d duplicates=%d first_auth_ms_p50=%.1f p99=%.1f seconds=%.0f",
		len(f.replicas), f.rotations, len(f.settings), f.sent.Load(), f.stale.Load(), f.arrived.Load()-f.sent.Load(), ms(50), ms(99),
		time.Since(started).Seconds())
	if n := f.stale.Load(); n > 0 {
		t.Errorf("%d mails came with what was changed before they were sent", n)
	}
	if f.arrived.Load() != f.sent.Load() {
		t.Errorf("%d mails were sent, %d arrived", f.sent.Load(), f.arrived.Load())
	}
}

// TestFreshReplicasIsMeasured sees that the test above would notice a cache in each replica: of 20 ms, or where the
// machine takes longer than that from an acknowledgement to the next mail, of the first that lasts long enough.
func TestFreshReplicasIsMeasured(t *testing.T) {
	for lasts := 20 * time.Millisecond; ; lasts *= 2 {
		f := newFreshReplicas(t, func(s app.Store) app.Store { return &remembering{Store: s, lasts: lasts} })
		f.run(200, func() bool { return f.stale.Load() > 0 })
		if f.stale.Load() == 0 && lasts < time.Second/4 {
			continue
		}
		t.Logf("REL fresh_replicas_control cache_ms=%d rotations=%d mails=%d stale=%d", lasts.Milliseconds(), f.rotations, f.sent.Load(), f.stale.Load())
		if f.stale.Load() == 0 {
			t.Error("a stale password was not noticed")
		}
		return
	}
}

// TestFreshSigningKeys renews the signing key of a webhook through one replica and posts through another.
func TestFreshSigningKeys(t *testing.T) {
	url, keyset := pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")
	h := newHook(t)
	var replicas []*mailRun
	for range freshReplicaCount {
		s := start(t, replica(t, url, keyset))
		replicas = append(replicas, &mailRun{t: t, s: s, wire: s.wires(http1)[0]})
	}
	id, _ := replicas[0].call("AddEmailProviderHTTP", `{"endpoint":"`+h.URL+`","description":"the hook"}`).at("id").(string)
	replicas[0].call("ActivateEmailProvider", `{"id":"`+id+`"}`)
	for _, r := range replicas {
		r.provider = id
	}
	for i := range atLength(40, 400) {
		key := replicas[i%len(replicas)].newKey(h)
		replicas[(i+1)%len(replicas)].post("after a new key", 1)
		if got := h.all(); len(got) != i+1 || !signed(key, got[i].signature, got[i].body) {
			t.Fatalf("mail %d of %d is not signed with the key of change %d", len(got), i+1, i)
		}
	}
}
