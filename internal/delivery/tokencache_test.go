package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// slowSource takes a second for a token, which names its number and the credential.
type slowSource struct {
	life time.Duration
	fail atomic.Bool
	n    atomic.Int64
}

func (s *slowSource) Token(ctx context.Context, via emailprovider.Route) (delivery.Bearer, error) {
	n := s.n.Add(1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return delivery.Bearer{}, ctx.Err()
	}
	if s.fail.Load() {
		return delivery.Bearer{}, errors.New("no token")
	}
	token := fmt.Sprintf("%d of %s %s %d", n, via.Instance, via.ProviderID, via.CredentialVersion)
	return delivery.Bearer{Token: secret.New(token), Life: s.life}, nil
}

// storedRoute is of a provider that is stored, with a version of its credential.
func storedRoute(via emailprovider.Route, version uint64) emailprovider.Route {
	via.Instance, via.ProviderID, via.Sequence, via.CredentialVersion = "default", "7", version, version
	return via
}

// tokenOf returns the token for a route; an error fails the test.
func tokenOf(t *testing.T, c *delivery.TokenCache, via emailprovider.Route) string {
	t.Helper()
	b, err := c.Token(t.Context(), via)
	if err != nil {
		t.Error(err)
	}
	return b.Token.Reveal()
}

// TestTokenOnce has a hundred sessions open at the same time.
func TestTokenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &slowSource{life: time.Hour}
		c := delivery.NewTokenCache(source, time.Now)
		via := storedRoute(xoauth2Route("h:25", "https://t"), 1)
		gone, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { // who asks first goes away
			if _, err := c.Token(gone, via); !errors.Is(err, context.Canceled) {
				t.Errorf("a caller who went away: %v", err)
			}
		})
		synctest.Wait()
		for range 100 {
			all.Go(func() {
				if got := tokenOf(t, c, via); got != "1 of default 7 1" {
					t.Error(got)
				}
			})
		}
		synctest.Wait()
		cancel()
		all.Wait()
		if n := source.n.Load(); n != 1 {
			t.Errorf("%d requests", n)
		}
		t.Logf("REL token_once callers=101 requests=%d", source.n.Load())
	})
}

// TestTokenRenewal wants a token replaced before it ends, without anybody waiting, and kept while that fails.
func TestTokenRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &slowSource{life: 10 * time.Minute}
		c := delivery.NewTokenCache(source, time.Now)
		via := storedRoute(xoauth2Route("h:25", "https://t"), 1)
		got := func(want string) {
			t.Helper()
			began := time.Now()
			if token := tokenOf(t, c, via); token != want+" of default 7 1" {
				t.Errorf("%q, want the %sth", token, want)
			}
			if waited := time.Since(began); waited > 0 && source.n.Load() > 1 {
				t.Errorf("waited %v", waited)
			}
		}
		got("1")
		time.Sleep(7 * time.Minute) // 0.75 to 0.85 of 9.5 minutes are 7m8s to 8m5s
		got("1")
		time.Sleep(70 * time.Second)
		source.fail.Store(true)
		for range 5 {
			got("1") // and asks once
			time.Sleep(1500 * time.Millisecond)
		}
		if n := source.n.Load(); n != 2 {
			t.Errorf("%d requests", n)
		}
		source.fail.Store(false)
		time.Sleep(10 * time.Second)
		got("1")
		time.Sleep(2 * time.Second)
		got("3")
		time.Sleep(9 * time.Minute) // in which nobody wants it
		got("3")
		time.Sleep(2 * time.Second)
		got("4")
	})
}

// TestTokenEnd wants no token used that may have ended, whatever its endpoint says.
func TestTokenEnd(t *testing.T) {
	for life, good := range map[time.Duration]time.Duration{
		0: 0, 30 * time.Second: 0, -time.Hour: 0, 2 * time.Minute: 90 * time.Second, 1e6 * time.Hour: time.Hour - 30*time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			source := &slowSource{life: life}
			c := delivery.NewTokenCache(source, time.Now)
			via := storedRoute(xoauth2Route("h:25", "https://t"), 1)
			first := tokenOf(t, c, via)
			time.Sleep(good)
			if next := tokenOf(t, c, via); next == first {
				t.Errorf("a token for %v is used after %v", life, good)
			}
		})
	}
}

// TestTokenKeys wants a token for exactly one state of one credential.
func TestTokenKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &slowSource{life: time.Hour}
		c := delivery.NewTokenCache(source, time.Now)
		base := storedRoute(xoauth2Route("h:25", "https://t"), 5)
		asks := func(what string, via emailprovider.Route, want int64) {
			t.Helper()
			before := source.n.Load()
			want += before
			for range 2 {
				if got, end := tokenOf(t, c, via), fmt.Sprintf("of %s %s %d", via.Instance, via.ProviderID, via.CredentialVersion); !strings.HasSuffix(got, end) {
					t.Errorf("%s: %q, want one %s", what, got, end)
				}
			}
			if n := source.n.Load(); n != want {
				t.Errorf("%s: %d requests, want %d", what, n-before, want-before)
			}
		}
		change := func(f func(*emailprovider.Route)) emailprovider.Route {
			via, smtp := base, *base.SMTP
			via.SMTP = &smtp
			f(&via)
			return via
		}
		asks("a provider", base, 1)
		asks("another instance", change(func(r *emailprovider.Route) { r.Instance = "other" }), 1)
		asks("another provider", change(func(r *emailprovider.Route) { r.ProviderID = "8" }), 1)
		asks("another description", change(func(r *emailprovider.Route) { r.Sequence = 6 }), 0)
		asks("values", change(func(r *emailprovider.Route) { r.ProviderID, r.CredentialVersion = "", 0 }), 2)
		asks("a version", change(func(r *emailprovider.Route) { r.Sequence, r.CredentialVersion = 7, 6 }), 1)
		asks("the version before", base, 2)
		asks("the version", change(func(r *emailprovider.Route) { r.Sequence, r.CredentialVersion = 7, 6 }), 0)
		asks("a scope", change(func(r *emailprovider.Route) {
			r.Sequence, r.CredentialVersion, r.SMTP.XOAuth2.Scopes = 8, 6, []string{"x"}
		}), 1)
		asks("an endpoint", change(func(r *emailprovider.Route) {
			r.Sequence, r.CredentialVersion, r.SMTP.XOAuth2.TokenEndpoint = 9, 6, "https://u"
		}), 1)
	})
}

// office is a token endpoint whose tokens a mail server takes. It knows one client secret at a time.
type office struct {
	*httptest.Server
	smtp *smtptest.Server

	mu     sync.Mutex
	secret string
	asked  int
	answer string         // to all, if not empty
	of     map[int]string // versions at the mail server to the secrets that they were got with
}

func startOffice(t *testing.T) *office {
	t.Helper()
	o := &office{smtp: startServer(t, smtptest.Options{Mechanisms: []string{"XOAUTH2"}, DemandAuth: true}), of: map[int]string{}}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	return o
}

func (o *office) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	_, key, _ := r.BasicAuth()
	switch {
	case o.answer != "":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, o.answer)
	case !strings.HasPrefix(key, o.secret):
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error":"invalid_client","error_description":"not %s"}`, key)
	default:
		token := fmt.Sprintf("token-%d", o.asked)
		o.of[o.smtp.AllowPassword(user, token)] = key
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token)
	}
}

func (o *office) requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

// route is to the mail server, with a client secret as a version of the credential.
func (o *office) route(version uint64, key string) emailprovider.Route {
	via := storedRoute(xoauth2Route(o.smtp.Addr(), o.URL), version)
	via.Secret = secret.New(key)
	return via
}

// TestKeptToken sends mails over sessions that each need a token.
func TestKeptToken(t *testing.T) {
	o := startOffice(t)
	transport := newTransport(t, delivery.Options{})
	via := o.route(1, "secret-1")
	send := func(what, want string, requests, logins int) {
		t.Helper()
		via.Sequence++ // for a session of its own
		asked, tried := o.requests(), len(o.smtp.Attempts())
		if got := fates(carry(t.Context(), t, transport, via, letters(1))); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		if asked, tried := o.requests()-asked, len(o.smtp.Attempts())-tried; asked != requests || tried != logins {
			t.Errorf("%s: %d requests, %d logins", what, asked, tried)
		}
	}
	send("the first", "ok", 1, 1)
	send("the next", "ok", 0, 1)
	o.smtp.SetPassword(user, "revokes all")
	send("a token that was revoked", "ok", 1, 2)
	for _, recipient := range []string{"", "rcpt@example.org"} {
		asked := o.requests()
		if r := verify(t, delivery.Options{}, via, recipient); !r.Passed() || o.requests() != asked+1 {
			t.Errorf("a verification asks %d times: %+v", o.requests()-asked, r)
		}
	}
	o.smtp.SetPassword(user, "revokes all")
	o.answer = `{"error":"invalid_scope"}`
	send("a revoked one, and no other", "token 400", 1, 1)
	o.answer = ""
	send("and then one", "ok", 1, 1)
	transport.Drop("another")
	send("after another instance was removed", "ok", 0, 1)
	transport.Drop(via.Instance)
	send("after its instance was removed", "ok", 1, 1)
}

// TestRefusedTokens has a mail server refuse every token: each session gets a new one, once.
func TestRefusedTokens(t *testing.T) {
	o := startOffice(t)
	h := startHostile(t, smtptest.Script{AuthOffer: "XOAUTH2", Answers: map[string]smtptest.Answer{
		smtptest.Auth: smtptest.Say("535 5.7.8 no token-1 secret-1\r\n"),
	}})
	transport := newTransport(t, delivery.Options{})
	via := o.route(1, "secret-1")
	via.SMTP.Host = h.Addr()
	for i := range 3 {
		d := carry(t.Context(), t, transport, via, letters(1))[0]
		if fate(d) != "auth 535" || o.requests() != i+1 || d.Failed.Text == "" || strings.Contains(d.Failed.Text, "secret-1") {
			t.Errorf("%d requests: %+v", o.requests(), d.Failed)
		}
	}
}

// TestClientSecretRotation changes the client secret under load, and counts mails that went out with a token
// of a secret before the one that they were claimed with. The red control keeps tokens without a version.
func TestClientSecretRotation(t *testing.T) {
	mails, stale := rotateUnderLoad(t, nil)
	if stale != 0 {
		t.Errorf("%d of %d mails went out with a token of a former secret", stale, mails)
	}
	redMails, red := rotateUnderLoad(t, func(source delivery.TokenSource) delivery.TokenSource { return &versionless{source: source} })
	if red == 0 {
		t.Error("the red control is not caught")
	}
	t.Logf("REL client_secret_rotation mails=%d stale=%d red_mails=%d red=%d", mails, stale, redMails, red)
}

// versionless keeps the first token of all.
type versionless struct {
	source delivery.TokenSource
	mu     sync.Mutex
	kept   delivery.Bearer
}

func (v *versionless) Token(ctx context.Context, via emailprovider.Route) (b delivery.Bearer, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kept.Token.Empty() {
		v.kept, err = v.source.Token(ctx, via)
	}
	return v.kept, err
}

func rotateUnderLoad(t *testing.T, wrap func(delivery.TokenSource) delivery.TokenSource) (mails, stale int) {
	o := startOffice(t)
	options := delivery.Options{IdleTimeout: time.Nanosecond}
	if wrap != nil {
		options.Tokens = wrap(&delivery.TokenClient{})
	}
	transport := newTransport(t, options)
	rotations := 30
	if os.Getenv("MAILKEEP_PROVE") != "" { // task prove
		rotations = 400
	}
	var current atomic.Pointer[emailprovider.Route]
	rotate := func(version int) {
		via := o.route(uint64(version), secretOf(version))
		current.Store(&via)
	}
	rotate(1)
	var senders sync.WaitGroup
	var sent atomic.Int64
	done := make(chan struct{})
	for sender := range 4 {
		senders.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				via := *current.Load()
				m := testMail
				m.Subject = via.Secret.Reveal()
				m.MessageID = fmt.Sprintf("m%d.%d@example.com", sender, n)
				transport.Carry(t.Context(), via, []emailprovider.Mail{m}, func(_ int, d emailprovider.Delivery) bool {
					if d.Failed != nil {
						t.Errorf("%+v", d.Failed)
					}
					sent.Add(1)
					return true
				})
			}
		})
	}
	for version := 2; version <= rotations; version++ {
		for before := sent.Load(); sent.Load() < before+8; {
			time.Sleep(100 * time.Microsecond)
		}
		rotate(version)
	}
	for before := sent.Load(); sent.Load() < before+8; {
		time.Sleep(100 * time.Microsecond)
	}
	close(done)
	senders.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.smtp.Mails() {
		mails++
		_, subject, _ := strings.Cut(string(m.Data), "Subject: ")
		claimed, _, _ := strings.Cut(subject, "\r\n")
		if o.of[m.Version] < claimed { // secretOf has leading zeros
			stale++
		}
	}
	return mails, stale
}

func secretOf(version int) string { return fmt.Sprintf("secret-%04d", version) }
