package app_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/anishathalye/porcupine"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/faultproxy"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// observer has callers use the pool of providers through all replicas and over every protocol, and writes down
// what each call and each mail at the mail server shows of it.
type observer struct {
	t       *testing.T
	servers *servers
	fleet   *fleet
	inbox   *smtptest.Server
	started time.Time

	mu     sync.Mutex
	number int // of calls, in all rounds
	round  *round

	ops, unknown int // judged, and of these of unknown outcome
	late         int // mails of rounds that are over
}

// round is a bounded history.
type round struct {
	first     poolState
	calls     []*observed
	ids       []string          // of providers, empty if not known
	byID      map[string]int    // their places
	mails     map[int]*observed // accepted, or perhaps, by the number of the call
	arrived   map[int]int       // how often
	passwords map[int][]int     // of each provider the calls that have set them, by the version at the mail server
	stop      chan struct{}
	callers   sync.WaitGroup
}

// observed is a call or a mail.
type observed struct {
	poolCall
	answer       poolAnswer
	outcome      outcome
	began, ended int64
}

func newObserver(t *testing.T, wrap func(app.Store) app.Store) *observer {
	t.Helper()
	o := &observer{t: t, servers: startServers(t, false), started: time.Now()}
	var err error
	if o.inbox, err = smtptest.Start(smtptest.Options{DemandAuth: true, Keep: 1, OnMail: o.arrive}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.inbox.Close() })
	o.fleet = startFleet(t, 3, o.servers.url(), func(_ int, c *app.Config) { c.WrapStore, c.Lease = wrap, replicaLease })
	return o
}

func (o *observer) now() int64 { return int64(time.Since(o.started)) }

// phrase is the password that a call sets.
func phrase(number int) string { return fmt.Sprintf("password-%d", number) }

// next numbers a call.
func (o *observer) next() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.number++
	return o.number
}

// place gives a new provider its place; ok is false if there is none left but so many.
func (o *observer) place(left int) (i int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.round.ids) == mostProviders-left {
		return 0, false
	}
	o.round.ids = append(o.round.ids, "")
	return len(o.round.ids) - 1, true
}

// allow lets the mail server know a password before anybody can use it.
func (o *observer) allow(provider, number int) {
	version := o.inbox.AllowPassword(o.round.account(provider), phrase(number))
	o.mu.Lock()
	defer o.mu.Unlock()
	of := o.round.passwords[provider]
	for len(of) < version {
		of = append(of, 0)
	}
	of[version-1] = number
	o.round.passwords[provider] = of
}

// account is the user of a provider at the mail server, another one in each round.
func (r *round) account(provider int) string {
	return fmt.Sprintf("user-%d-%d", r.first.last, provider)
}

// arrive is what the mail server does with a mail.
func (o *observer) arrive(m smtptest.Mail) {
	at := o.now()
	var number, provider int
	var first uint64
	_, subject, _ := bytes.Cut(m.Data, []byte("Subject: mail "))
	_, err := fmt.Sscan(string(subject), &number)
	if err == nil {
		_, err = fmt.Sscanf(m.User, "user-%d-%d", &first, &provider)
	}
	if err != nil {
		o.t.Errorf("a mail of %q that nobody has sent:\n%s", m.User, m.Data)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	sent := o.round.mails[number]
	if sent == nil || first != o.round.first.last {
		o.late++ // it has arrived before
		return
	}
	o.round.arrived[number]++
	o.round.calls = append(o.round.calls, &observed{
		poolCall: poolCall{kind: "mail", number: number}, answer: poolAnswer{provider: provider, password: o.round.passwords[provider][m.Version-1]},
		outcome: made, began: sent.began, ended: at,
	})
}

// caller makes one call after another.
type poolCaller struct {
	*observer
	op    string // of the call under way
	wires []wire
}

// tagged names the call under way to the service, which shows it in events.
type tagged struct {
	caller *poolCaller
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t tagged) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-User-Agent", t.caller.op)
	return t.next.RoundTrip(r)
}

func (o *observer) newCaller() *poolCaller {
	c := &poolCaller{observer: o}
	for _, s := range o.fleet.services {
		for _, v := range []httpVersion{http1, http2} {
			client := s.client(v)
			client.Transport = tagged{c, client.Transport}
			c.wires = append(c.wires, s.wiresOf(client, v)...)
		}
	}
	return c
}

// methodsOf are the methods of the kinds of calls, of both generations.
var methodsOf = map[string][]string{
	"get": {"GetEmailProviderById", "GetSMTPConfigById"}, "active": {"GetEmailProvider", "GetSMTPConfig"},
	"list": {"ListEmailProviders", "ListSMTPConfigs"}, "add": {"AddEmailProviderSMTP", "AddSMTPConfig"},
	"update":     {"UpdateEmailProviderSMTP", "UpdateSMTPConfig"},
	"password":   {"UpdateEmailProviderSMTPPassword", "UpdateSMTPConfigPassword"},
	"activate":   {"ActivateEmailProvider", "ActivateSMTPConfig"},
	"deactivate": {"DeactivateEmailProvider", "DeactivateSMTPConfig"},
	"remove":     {"RemoveEmailProvider", "RemoveSMTPConfig"},
	"accepted":   {"SendMessage"},
}

// kinds is how often each kind of call is made.
var kinds = map[string]int{
	"get": 18, "active": 8, "list": 6, "accepted": 26, "add": 2, "update": 10, "password": 16, "activate": 8, "deactivate": 3, "remove": 3,
}

func anyKind() string {
	n := rand.N(100)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if n -= kinds[kind]; n < 0 {
			return kind
		}
	}
	return "get"
}

// act makes a call of a kind about a provider, -1 for a new one, and writes down what came of it.
func (c *poolCaller) act(kind string, provider int) *observed {
	o := &observed{poolCall: poolCall{kind, provider, c.next()}}
	c.op = fmt.Sprintf("call-%d", o.number)
	if kind == "add" || kind == "password" {
		c.allow(provider, o.number)
	}
	c.mu.Lock()
	id := ""
	if kind != "add" {
		id = c.round.ids[provider]
	}
	if kind == "accepted" {
		c.round.mails[o.number] = o
	}
	o.began = c.observer.now()
	user := c.round.account(provider)
	c.mu.Unlock()
	settings := fmt.Sprintf(`"senderAddress":"s@example.com","senderName":"S","host":%q,"user":%q,"description":"%d"`, c.inbox.Addr(), user, o.number)
	body := fmt.Sprintf(`{"id":%q}`, id)
	switch kind {
	case "active", "list":
		body = `{}`
	case "add":
		body = fmt.Sprintf(`{%s,"password":%q}`, settings, phrase(o.number))
	case "update":
		body = fmt.Sprintf(`{"id":%q,%s}`, id, settings)
	case "password":
		body = fmt.Sprintf(`{"id":%q,"password":%q}`, id, phrase(o.number))
	case "accepted":
		body = fmt.Sprintf(`{"to":["r@example.com"],"text":"x","subject":"mail %d"}`, o.number)
	}
	names := methodsOf[kind]
	m := methods()[names[rand.N(len(names))]]
	w := c.wires[rand.N(len(c.wires))]
	a := w.call(c.t, adminToken, m, message(c.t, string(m.Descriptor.Input().FullName()), body))
	c.note(o, a, m.Name+" over "+w.name)
	return o
}

// note writes down what a call has come to.
func (c *poolCaller) note(o *observed, a answer, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.ended = c.observer.now()
	c.round.calls = append(c.round.calls, o)
	switch {
	case a.code == 0:
		o.outcome = made
		c.round.read(o, a.fields)
	case a.id == "MAILKEEP-OUTCOME":
		o.outcome = unknown
	case a.code == connect.CodeNotFound, a.id == "MAILKEEP-NOACTIVE":
		o.outcome, o.answer.missing = made, true
	default:
		o.outcome = notMade
		if a.code != connect.CodeUnavailable && a.code != connect.CodeAborted {
			c.t.Errorf("%s: %v", what, a)
		}
	}
}

// read reads an answer.
func (r *round) read(o *observed, f fields) {
	switch o.kind {
	case "add":
		id, _ := f.at("id").(string)
		r.know(o.provider, id)
		fallthrough
	case "update", "password", "activate", "deactivate", "remove":
		o.answer.sequence = number(f.at("details", "sequence"))
	case "get", "active":
		one, _ := f.at("config").(map[string]any)
		if one == nil {
			one, _ = f.at("smtpConfig").(map[string]any)
		}
		i, p := r.shown(one)
		o.answer.provider, o.answer.sequence, o.answer.active, o.answer.description = i, p.sequence, p.active, p.description
	case "list":
		o.answer.list.last = number(f.at("details", "processedSequence"))
		all, _ := f.at("result").([]any)
		for _, one := range all {
			i, p := r.shown(one.(map[string]any))
			o.answer.list.providers[i] = p
		}
	}
}

// know takes note of a provider's id.
func (r *round) know(provider int, id string) {
	r.ids[provider] = id
	r.byID[id] = provider
}

// shown is a provider as an answer shows it. One whose adding is not answered yet is known by its description or
// its user.
func (r *round) shown(one fields) (i int, p providerState) {
	id, _ := one.at("id").(string)
	user, _ := one.at("user").(string)
	if smtp, ok := one.at("smtp").(map[string]any); ok {
		user, _ = fields(smtp).at("user").(string)
	}
	i, ok := r.byID[id]
	if !ok {
		_, _ = fmt.Sscanf(user, "user-%d-%d", new(uint64), &i)
		r.know(i, id)
	}
	state := fmt.Sprint(one.at("state"))
	return i, providerState{
		exists: true, active: state == "EMAIL_PROVIDER_ACTIVE" || state == "SMTP_CONFIG_ACTIVE",
		sequence: number(one.at("details", "sequence")), description: int(number(one.at("description"))),
	}
}

func number(v any) uint64 {
	n, _ := strconv.ParseUint(fmt.Sprint(v), 10, 64)
	return n
}

// begin begins a round with an empty pool and three providers, one of them active.
func (o *observer) begin() {
	o.t.Helper()
	db := o.servers.db()
	list, err := db.List(o.t.Context(), instance.Default, emailprovider.Query{Limit: 1000})
	o.servers.must(err)
	for _, p := range list.Providers {
		_, err := o.fleet.services[0].Providers.Remove(o.t.Context(), emailprovider.Caller{Instance: instance.Default}, p.ID)
		o.servers.must(err)
	}
	list, err = db.List(o.t.Context(), instance.Default, emailprovider.Query{Limit: 1})
	o.servers.must(err)
	o.mu.Lock()
	o.round = &round{
		first: poolState{last: list.Sequence}, byID: map[string]int{}, mails: map[int]*observed{}, arrived: map[int]int{},
		passwords: map[int][]int{}, stop: make(chan struct{}),
	}
	o.mu.Unlock()
	c := o.newCaller()
	for range 3 {
		i, _ := o.place(1)
		c.act("add", i)
	}
	c.act("activate", 0)
}

// call has callers make calls until the round ends.
func (o *observer) call(callers int) {
	for range callers {
		c := o.newCaller()
		o.round.callers.Go(func() {
			for {
				select {
				case <-o.round.stop:
					return
				case <-time.After(rand.N(8 * time.Millisecond)):
				}
				c.actAny()
			}
		})
	}
}

// actAny makes some call.
func (c *poolCaller) actAny() {
	kind := anyKind()
	if kind == "add" {
		if i, ok := c.place(1); ok {
			c.act(kind, i)
		}
		return
	}
	c.mu.Lock()
	var known []int
	for i, id := range c.round.ids {
		if id != "" {
			known = append(known, i)
		}
	}
	c.mu.Unlock()
	provider := known[rand.N(len(known))]
	if rand.N(2) == 0 {
		provider = known[len(known)-1-rand.N(min(3, len(known)))] // which is seldom gone
	}
	if o := c.act(kind, provider); o.answer.sequence > 0 && kind != "get" && kind != "active" {
		c.act("get", provider) // at once, through whichever replica
	}
}

// more waits until so many more calls were made, successfully.
func (o *observer) more(n int) {
	count := func() (made int) {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, c := range o.round.calls {
			if c.outcome == 0 {
				made++
			}
		}
		return made
	}
	enough := count() + n
	eventually(o.t, soon, "answering calls", func() bool { return count() >= enough })
}

// end ends the round: when all mails have arrived it is judged.
func (o *observer) end() porcupine.CheckResult {
	o.t.Helper()
	close(o.round.stop)
	o.round.callers.Wait()
	o.servers.quiet()
	c := o.newCaller()
	last, _ := o.place(0)
	if c.act("add", last).outcome != made || c.act("activate", last).outcome != made {
		o.t.Fatal("no provider can be made active when everything is well again")
	}
	eventually(o.t, soon, "delivering all mails", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		for number, m := range o.round.mails {
			if m.outcome == made && !m.answer.missing && o.round.arrived[number] == 0 {
				return false
			}
		}
		return true
	})
	return o.judge()
}

// judge checks the history of the round. What is unknown of a call the events tell: it was made, at some time
// since, or never.
func (o *observer) judge() porcupine.CheckResult {
	o.t.Helper()
	events, err := o.servers.db().Events(o.t.Context(), instance.Default, "", o.round.first.last, 1<<30)
	o.servers.must(err)
	byOp := map[string]emailprovider.Event{}
	for _, e := range events {
		byOp[e.By.UserAgent] = e
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var history []porcupine.Operation
	for _, c := range o.round.calls {
		event, changed := byOp[fmt.Sprintf("call-%d", c.number)]
		switch c.outcome {
		case notMade:
			if changed {
				o.t.Errorf("%s was refused, and made", c.kind)
			}
			continue
		case unknown:
			o.unknown++
			if !changed {
				continue
			}
			c.answer.sequence, c.ended = event.Sequence, math.MaxInt64
		}
		history = append(history, porcupine.Operation{Input: c.poolCall, Output: c.answer, Call: c.began, Return: c.ended})
	}
	o.ops += len(history)
	result, info := checkPool(o.round.first, history)
	if result != porcupine.Ok {
		o.explain(poolModel(o.round.first), history, info)
	}
	return result
}

// patienceOfModel bounds the check of a history.
const patienceOfModel = time.Minute

// explain logs what comes after the longest beginning of the history that is as it should be.
func (o *observer) explain(model porcupine.Model, history []porcupine.Operation, info porcupine.LinearizationInfo) {
	var longest []porcupine.Operation
	for _, partials := range info.PartialLinearizationsOperations() { // none if the sequences alone say no
		for _, partial := range partials {
			if len(partial) > len(longest) {
				longest = partial
			}
		}
	}
	in := map[any]bool{}
	for _, op := range longest {
		in[op.Input] = true
	}
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	logged := 0
	for _, op := range history {
		if !in[op.Input] && logged < 5 {
			o.t.Logf("%d of %d are as they should be; not so, from %s to %s: %s", len(longest), len(history),
				time.Duration(op.Call), time.Duration(op.Return), model.DescribeOperation(op.Input, op.Output))
			logged++
		}
	}
}

// mishap is what servers and network go through in a round.
type mishap struct {
	name  string
	begin func(*observer) // under load
	after func(*observer) // before the next round
}

// mishaps are all there are; the first few show most.
var mishaps = []mishap{
	{"killed primary, back as a zombie", func(o *observer) {
		former := o.servers.now()
		o.servers.must(former.Kill(o.t.Context()))
		o.servers.takeOver()
		o.servers.must(former.StartAgain(o.t.Context()))
	}, (*observer).addStandby},
	{"lost answers", cutting(faultproxy.DropAnswers), nil},
	{"hung standby", func(o *observer) {
		o.servers.must(o.servers.standby().Freeze(o.t.Context()))
		o.wait(answerTime)
		o.servers.must(o.servers.standby().Thaw())
	}, nil},
	{"hung primary that goes on", func(o *observer) {
		former := o.servers.now()
		o.servers.must(former.Freeze(o.t.Context()))
		o.servers.takeOver()
		for _, s := range o.fleet.services { // each has seen the new one
			eventually(o.t, soon, "reading", func() bool {
				_, _, err := s.Providers.List(o.t.Context(), instance.Default, emailprovider.Query{Limit: 1})
				return err == nil
			})
		}
		o.servers.must(former.Thaw())
	}, (*observer).addStandby},
	{"nothing", func(*observer) {}, nil},
	{"reset connections", cutting(faultproxy.Reset), nil},
	{"dropped packets", cutting(faultproxy.Drop), nil},
	{"lost requests", cutting(faultproxy.DropRequests), nil},
	{"stalled connections", cutting(faultproxy.Stall), nil},
	{"refused connections", cutting(faultproxy.Refuse), nil},
}

// cutting has the network do something for a while.
func cutting(f faultproxy.Fault) func(*observer) {
	return func(o *observer) {
		line := o.servers.at[o.servers.primary]
		o.servers.must(line.Set(f))
		o.wait(1500 * time.Millisecond)
		o.servers.must(line.Set(faultproxy.Pass))
	}
}

func (o *observer) addStandby() { o.servers.addStandby(false) }

// wait lets calls go on for a while.
func (o *observer) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-o.t.Context().Done():
	}
}

// observe makes a round of each mishap and returns how many came to each result.
func (o *observer) observe(mishaps []mishap) map[porcupine.CheckResult]int {
	results := map[porcupine.CheckResult]int{}
	for _, m := range mishaps {
		o.begin()
		o.call(9)
		o.more(150)
		m.begin(o)
		o.more(350)
		result := o.end()
		results[result]++
		o.t.Logf("%s: %s", m.name, result)
		if m.after != nil {
			m.after(o)
		}
	}
	return results
}

// TestLinearizable has callers use the pool through three replicas and over every protocol, while servers and
// the network fail: everything that they and the mail server see is as if there were one pool, and one call at
// a time.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	o := newObserver(t, nil)
	rounds := atLength(2, len(mishaps))
	results := o.observe(mishaps[:rounds])
	result := "ok"
	if results[porcupine.Ok] != rounds {
		result = fmt.Sprint(results)
		t.Error("the promise is broken")
	}
	t.Logf("REL linearizable rounds=%d ops=%d unknown=%d result=%s", rounds, o.ops, o.unknown, result)
	if o.unknown == 0 && rounds == len(mishaps) || o.ops < rounds*500 {
		t.Error("it was hardly looked at")
	}
}

// caching is a store that remembers providers for a moment, and what claims find of them.
type caching struct {
	app.Store
	memory *atomic.Int64 // how long, in nanoseconds
	mu     sync.Mutex
	byID   map[string]remembered
	claim  remembered
}

type remembered struct {
	provider emailprovider.Provider
	err      error
	until    time.Time
}

func (c *caching) remember(at *remembered, read func() (emailprovider.Provider, error)) (emailprovider.Provider, error) {
	if time.Now().After(at.until) {
		at.provider, at.err = read()
		at.until = time.Now().Add(time.Duration(c.memory.Load()))
	}
	return at.provider, at.err
}

// Provider implements emailprovider.Store.
func (c *caching) Provider(ctx context.Context, instance, id string) (emailprovider.Provider, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.byID[id]
	defer func() { c.byID[id] = r }()
	return c.remember(&r, func() (emailprovider.Provider, error) { return c.Store.Provider(ctx, instance, id) })
}

// Claim implements outbox.Queue.
func (c *caching) Claim(ctx context.Context, r outbox.ClaimRequest) (outbox.Claim, error) {
	claim, err := c.Store.Claim(ctx, r)
	if err != nil || claim.Provider.ID == "" {
		return claim, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	claim.Provider, _ = c.remember(&c.claim, func() (emailprovider.Provider, error) { return claim.Provider, nil })
	return claim, nil
}

// forgetting is a store that lets a change take the place of one that it does not know of.
type forgetting struct{ app.Store }

// Apply implements emailprovider.Store.
func (f forgetting) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	if c.Expect > 0 {
		if now, err := f.Store.Provider(ctx, c.Event.Instance, c.Event.ProviderID); err == nil {
			c.Expect, c.ExpectKey = now.Sequence, now.Credential.Sealed.KeyID
		}
	}
	return f.Store.Apply(ctx, c)
}

// TestLinearizableIsMeasured sees that the test above would notice a cache of 5 ms, and lost updates.
func TestLinearizableIsMeasured(t *testing.T) {
	var memory atomic.Int64
	memory.Store(int64(5 * time.Millisecond))
	for name, wrap := range map[string]func(app.Store) app.Store{
		"cache":        func(s app.Store) app.Store { return &caching{Store: s, memory: &memory, byID: map[string]remembered{}} },
		"lost updates": func(s app.Store) app.Store { return forgetting{s} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newObserver(t, wrap)
			undisturbed := mishap{name, func(*observer) {}, nil}
			rounds, illegal := 0, 0
			for illegal == 0 && rounds < 10 {
				if rounds++; rounds > 3 && name == "cache" {
					memory.Store(2 * memory.Load()) // a call takes longer here, as with the race detector
				}
				illegal = o.observe([]mishap{undisturbed})[porcupine.Illegal]
			}
			t.Logf("%s: noticed in round %d; a cache lasts for %s", name, rounds, time.Duration(memory.Load()))
			if illegal == 0 {
				t.Error("it was not noticed")
			}
		})
	}
}
