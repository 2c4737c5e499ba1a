package app_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// tenant is an instance as its owner sees it.
type tenant struct {
	t        *testing.T
	s        *service
	id       string
	host     string
	token    string
	inbox    *smtptest.Server
	provider string
	mails    int // at the inbox
}

// addTenant makes an instance, and its provider at a mail server of its own.
func (s *service) addTenant(t *testing.T, id string) *tenant {
	t.Helper()
	n := &tenant{t: t, s: s, id: id, host: id + ".example", inbox: inbox(t, "password of "+id)}
	n.token, _ = s.asSystem(t, "AddInstance", `{"id":"`+id+`","domains":["`+n.host+`"]}`).fields.at("secret").(string)
	if n.token == "" {
		t.Fatal("no token")
	}
	n.provider, _ = n.call("AddEmailProviderSMTP", fmt.Sprintf(
		`{"senderAddress":"sender@%s","senderName":"S","host":"%s","user":"%s","password":"password of %s"}`, n.host, n.inbox.Addr(), user, id)).at("id").(string)
	n.call("ActivateEmailProvider", `{"id":"`+n.provider+`"}`)
	return n
}

// asSystem makes a call of the operator that must succeed.
func (s *service) asSystem(t *testing.T, name, body string) answer {
	t.Helper()
	a := s.wires(http1)[0].call(t, adminToken, methods()[name], message(t, string(methods()[name].Descriptor.Input().FullName()), body))
	if a.code != 0 {
		t.Fatalf("%s %s: %v", name, body, a)
	}
	return a
}

// at is a client whose requests are for a host.
func (s *service) at(host string, v httpVersion) *http.Client {
	client := s.client(v)
	direct := client.Transport
	client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.Host = host
		return direct.RoundTrip(r)
	})
	return client
}

// wires are all ways to call the tenant's host.
func (n *tenant) wires() []wire { return n.s.wiresAt(n.host) }

func (s *service) wiresAt(host string) []wire {
	return append(s.wiresOf(s.at(host, http1), http1), s.wiresOf(s.at(host, http2), http2)...)
}

// call makes a call of the owner that must succeed.
func (n *tenant) call(name, body string) fields {
	n.t.Helper()
	return n.callOver(n.s.wiresOf(n.s.at(n.host, http1), http1)[0], name, body)
}

func (n *tenant) callOver(w wire, name, body string) fields {
	n.t.Helper()
	a := w.call(n.t, n.token, methods()[name], message(n.t, string(methods()[name].Descriptor.Input().FullName()), body))
	if a.code != 0 {
		n.t.Fatalf("%s over %s: %s: %v", n.id, w.name, name, a)
	}
	return a.fields
}

// send sends a mail over a wire and waits until the tenant's own mail server has it.
func (n *tenant) send(w wire) string {
	n.t.Helper()
	id, _ := n.callOver(w, "SendMessage", `{"to":["r@example.com"],"text":"of `+n.id+`"}`).at("id").(string)
	n.mails++
	mails, err := n.inbox.Wait(n.t.Context(), n.mails)
	if err != nil {
		n.t.Fatal(err)
	}
	if last := mails[len(mails)-1]; len(mails) != n.mails || !strings.Contains(string(last.Data), "of "+n.id) {
		n.t.Errorf("the server of %s has %d mails, want %d; the last one is\n%s", n.id, len(mails), n.mails, last.Data)
	}
	return id
}

// open lets a service reach the mail servers of these tests, which it may not where others name them.
func open(t *testing.T, c app.Config) app.Config {
	t.Helper()
	loopback, err := egress.ParseTarget("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	c.EgressAllow = append(c.EgressAllow, loopback)
	return c
}

// onStores runs a test with a service on each kind of store.
func onStores(t *testing.T, test func(t *testing.T, c app.Config)) {
	t.Run("embedded", func(t *testing.T) { test(t, open(t, config(t))) })
	t.Run("PostgreSQL", func(t *testing.T) {
		test(t, open(t, replica(t, pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json"))))
	})
}

// TestTenants is two instances beside the default one, over every protocol: each has what is its own.
func TestTenants(t *testing.T) {
	onStores(t, func(t *testing.T, c app.Config) {
		s := start(t, c)
		own := s.addProvider(t, "127.0.0.1:25", "p")
		a, b := s.addTenant(t, "a"), s.addTenant(t, "b")
		calls := 0
		for i, w := range a.wires() {
			for _, c := range []struct {
				n    *tenant
				wire wire
			}{{a, w}, {b, b.wires()[i]}} {
				found := c.n.callOver(c.wire, "ListEmailProviders", `{}`)
				text := fmt.Sprint(found)
				if !strings.Contains(text, c.n.provider) {
					t.Errorf("%s does not see its provider over %s: %s", c.n.id, c.wire.name, text)
				}
				for _, other := range []string{own, a.provider, b.provider} {
					if other != c.n.provider && strings.Contains(text, other) {
						t.Errorf("%s sees over %s another's provider: %s", c.n.id, c.wire.name, text)
					}
				}
				if i%4 == 0 {
					c.n.send(c.wire)
				}
				calls++
			}
		}
		t.Logf("REL tenants wires=%d calls=%d mails=%d", len(a.wires()), calls, a.mails+b.mails)
	})
}

// TestTenantAdmission: a token is one instance's, and a host that is nobody's is told so whatever comes with
// the request; over every protocol, for every method.
func TestTenantAdmission(t *testing.T) {
	s := start(t, open(t, config(t)))
	alone := s.wiresAt("anything.example")[0].call(t, adminToken, methods()["ListTokens"], &mailkeepv1.ListTokensRequest{})
	if alone.code != 0 {
		t.Errorf("alone, default does not answer at any host: %v", alone)
	}
	a, b := s.addTenant(t, "a"), s.addTenant(t, "b")
	refused := 0
	for _, c := range []struct {
		host, token string
		code        connect.Code
		id          string
	}{
		{a.host, b.token, connect.CodeUnauthenticated, "AUTH-7fs1e"},
		{a.host, adminToken, connect.CodeUnauthenticated, "AUTH-7fs1e"},
		{"127.0.0.1", a.token, connect.CodeUnauthenticated, "AUTH-7fs1e"},
		{"anything.example", a.token, connect.CodeNotFound, "MAILKEEP-HOST"},
		{"anything.example", adminToken, connect.CodeNotFound, "MAILKEEP-HOST"},
		{"anything.example", "garbage", connect.CodeNotFound, "MAILKEEP-HOST"},
		{"x." + a.host, "", connect.CodeNotFound, "MAILKEEP-HOST"},
	} {
		for _, w := range s.wiresAt(c.host) {
			for _, m := range methods() {
				if !offered(w, m) {
					continue
				}
				got := w.call(t, c.token, m, message(t, string(m.Descriptor.Input().FullName()), "{}"))
				if got.code != c.code || got.id != c.id {
					t.Errorf("%s at %s over %s: %v, want %s with %s", m.Name, c.host, w.name, got, c.code, c.id)
				}
				refused++
			}
		}
	}
	for _, w := range a.wires() { // red control: the right token
		a.callOver(w, "ListTokens", `{}`)
	}
	t.Logf("REL tenant-admission methods=%d refused=%d", len(methods()), refused)
}

// TestOwnersAreNoOperators: the owner of an instance does not get at instances, its own neither.
func TestOwnersAreNoOperators(t *testing.T) {
	s := start(t, open(t, config(t)))
	a := s.addTenant(t, "a")
	for name, body := range map[string]string{
		"AddInstance": `{"id":"x"}`, "ListInstances": `{}`, "UpdateInstance": `{"id":"a","tokens":0}`, "RemoveInstance": `{"id":"a"}`, "RotateKeys": `{}`,
	} {
		m := methods()[name]
		got := a.wires()[0].call(t, a.token, m, message(t, string(m.Descriptor.Input().FullName()), body))
		if got.code != connect.CodePermissionDenied {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestRemoveTenant: with the answer its token and host are gone, watches end, and nothing of it opens that
// was copied out of its rows before, whoever has the keyset. The other instance notices nothing.
func TestRemoveTenant(t *testing.T) {
	onStores(t, func(t *testing.T, c app.Config) {
		c.KeepBodies = true
		s := start(t, c)
		a, b := s.addTenant(t, "a"), s.addTenant(t, "b")
		loot := steal(t, a, a.send(a.wires()[0]))
		if n := loot.open(t, s, c); n != sealedInLoot {
			t.Fatalf("red control: %d of %d open before the removal", n, sealedInLoot)
		}
		watches := a.watches()
		s.asSystem(t, "RemoveInstance", `{"id":"a"}`)
		wantEnded(t, watches)
		for _, w := range a.wires() {
			if got := w.call(t, a.token, methods()["ListTokens"], &mailkeepv1.ListTokensRequest{}); got.code != connect.CodeNotFound {
				t.Errorf("at its host over %s: %v", w.name, got)
			}
		}
		for _, w := range s.wiresAt(b.host) {
			if got := w.call(t, a.token, methods()["ListTokens"], &mailkeepv1.ListTokensRequest{}); got.code != connect.CodeUnauthenticated {
				t.Errorf("its token at another host over %s: %v", w.name, got)
			}
		}
		opened := loot.open(t, s, c)
		if opened > 0 {
			t.Errorf("%d of %d secrets and bodies of a removed instance open", opened, sealedInLoot)
		}
		b.send(b.wires()[0])
		list := fmt.Sprint(s.asSystem(t, "ListInstances", `{"removed":true}`).fields)
		if strings.Contains(list, "a.example") || !strings.Contains(list, "removedBy:admin") {
			t.Errorf("instances: %s", list)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		s = start(t, c)
		b.s = s
		b.send(b.wires()[0])
		if n := loot.open(t, s, c); n > 0 {
			t.Errorf("after a restart %d open", n)
		}
		t.Logf("REL removal sealed=%d opened=%d watches=%d", sealedInLoot, opened, len(watches))
	})
}

// watches are watches of the tenant's mails over every protocol that has streams; they have begun.
func (n *tenant) watches() map[string]watching {
	all := map[string]watching{}
	for name, options := range map[string][]connecthttp.Option{
		"connect/h1": nil, "connect/h2": nil, "grpcweb/h1": {connecthttp.WithGRPCWeb()}, "grpc/h2": {connecthttp.WithGRPC()},
	} {
		client := n.s.at(n.host, httpVersion(name[len(name)-2:]))
		client.Timeout = 0 // streams last
		all[name] = watchAs(withToken(n.t.Context(), n.token), n.t,
			connect.NewClient(connecthttp.NewTransport(client, n.s.URL(), options...)), &mailkeepv1.WatchMessagesRequest{})
	}
	begun := make(chan error, len(all))
	for _, w := range all {
		go func() { _, err := w.stream.Receive(); begun <- err }()
	}
	for left := len(all); left > 0; {
		n.call("SendMessage", `{"to":["r@example.com"],"text":"x"}`)
		select {
		case err := <-begun:
			if left--; err != nil {
				n.t.Fatal(err)
			}
		case <-time.After(20 * time.Millisecond): // it began after that
		}
	}
	return all
}

// wantEnded waits until the watches have ended because their instance is gone.
func wantEnded(t *testing.T, watches map[string]watching) {
	t.Helper()
	for name, w := range watches {
		for {
			if _, err := w.stream.Receive(); err != nil {
				// Unauthenticated if a mail that was being sent had something to tell then.
				if code := connect.CodeOf(err); code != connect.CodeNotFound && code != connect.CodeUnauthenticated {
					t.Errorf("the watch over %s ends with %v", name, err)
				}
				break
			}
		}
	}
}

// TestTenantsOfReplicas: what one replica does to instances counts at once in itself and soon in the other,
// and a removal, as far as tokens and mails go, at once in both.
func TestTenantsOfReplicas(t *testing.T) {
	url, keyset := pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")
	here, there := start(t, open(t, replica(t, url, keyset))), start(t, open(t, replica(t, url, keyset)))
	a := here.addTenant(t, "a")
	here.addTenant(t, "b")
	far := *a
	far.s = there
	listTokens := func(s *service) connect.Code {
		return s.wiresOf(s.at(a.host, http1), http1)[0].call(t, a.token, methods()["ListTokens"], &mailkeepv1.ListTokensRequest{}).code
	}
	began := time.Now()
	eventually(t, soon, "known to the other replica", func() bool { return listTokens(there) == 0 })
	known := time.Since(began)
	for range 4 {
		far.send(far.wires()[0]) // sealed by one, perhaps sent by the other
		a.mails = far.mails
		a.send(a.wires()[0])
		far.mails = a.mails
	}
	here.asSystem(t, "RotateKeys", `{}`)
	far.send(far.wires()[0])
	watches := far.watches()
	here.asSystem(t, "RemoveInstance", `{"id":"a"}`)
	if code := listTokens(there); code != connect.CodeUnauthenticated && code != connect.CodeNotFound {
		t.Errorf("the other replica takes the token of a removed instance: %v", code)
	}
	began = time.Now()
	wantEnded(t, watches)
	ended := time.Since(began)
	eventually(t, soon, "gone from the other replica", func() bool { return listTokens(there) == connect.CodeNotFound })
	t.Logf("REL tenants-replicas known_ms=%d watches_ended_ms=%d", known.Milliseconds(), ended.Milliseconds())
}

// TestTrustedProxy: who else says which host a request is for is not heard.
func TestTrustedProxy(t *testing.T) {
	for name, c := range map[string]struct {
		proxies []netip.Prefix
		heard   bool
	}{
		"trusted": {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, true},
		"another": {[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, false},
		"nobody":  {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := open(t, config(t))
			config.TrustedProxies = c.proxies
			s := start(t, config)
			a := s.addTenant(t, "a")
			for header, value := range map[string]string{
				"X-Zitadel-Instance-Host": "A.example:443", "Forwarded": `for=10.0.0.1;host="a.example"`, "X-Forwarded-Host": "a.example.",
			} {
				for _, v := range []httpVersion{http1, http2} {
					asOwner := s.send(t, s.client(v), raw{"GET", "/v1/tokens", map[string]string{"Authorization": "Bearer " + a.token, header: value}, ""})
					asAdmin := s.send(t, s.client(v), raw{"GET", "/v1/tokens", map[string]string{header: value}, ""})
					if heard := asOwner.status == 200; heard != c.heard || heard == (asAdmin.status == 200) {
						t.Errorf("%s over %s: the owner of a gets %d, that of default %d", header, v, asOwner.status, asAdmin.status)
					}
				}
			}
		})
	}
}
