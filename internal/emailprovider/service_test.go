package emailprovider_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/secret"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// keyfile keeps a keyset in memory.
type keyfile struct{ data []byte }

func (f *keyfile) Read() ([]byte, error) {
	if f.data == nil {
		return nil, fs.ErrNotExist
	}
	return f.data, nil
}

func (f *keyfile) Write(data []byte) error { f.data = data; return nil }

// mailer notes the routes it is given and fails as it is told.
type mailer struct {
	mu     sync.Mutex
	routes []emailprovider.Route
	mails  []emailprovider.Mail
	fail   error

	asked  []emailprovider.Route                                                        // to verify
	answer func(via emailprovider.Route, recipient string) *emailprovider.DeliveryError // nil accepts everything
}

func (m *mailer) Verify(_ context.Context, via emailprovider.Route, recipient string, progress func(emailprovider.StepReport)) emailprovider.Report {
	m.mu.Lock()
	m.asked = append(m.asked, via)
	m.mu.Unlock()
	var report emailprovider.Report
	if m.answer != nil {
		report.Failed = m.answer(via, recipient)
	}
	report.Steps = []emailprovider.StepReport{{Name: "tcp", Passed: true}, {Name: "auth", Passed: report.Failed == nil}}
	for _, step := range report.Steps {
		if progress != nil {
			progress(step)
		}
	}
	return report
}

func (m *mailer) Deliver(_ context.Context, via emailprovider.Route, mail emailprovider.Mail) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.routes, m.mails = append(m.routes, via), append(m.mails, mail)
	return m.fail
}

func (m *mailer) last() emailprovider.Route { return m.routes[len(m.routes)-1] }

// world is a service on a real store with a real keyset.
type world struct {
	*emailprovider.Service
	t       *testing.T
	store   *sqlstore.DB
	keyset  *seal.Keyset
	keyfile *keyfile
	mailer  *mailer
	now     time.Time
}

var by = emailprovider.Caller{Instance: instance.Default, Actor: emailprovider.Actor{Name: "tester", Protocol: "rest"}}

func newWorld(t *testing.T, mode emailprovider.BindingMode, domains ...string) *world {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	file := &keyfile{}
	keyset, err := seal.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, keyset: keyset, keyfile: file, mailer: &mailer{}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.Service = emailprovider.NewService(emailprovider.Config{
		Store: store, Sealer: keyset, Mailer: w.mailer, Binding: mode, Log: slog.New(slog.DiscardHandler),
		Policies: policy{SenderDomains: domains},
		Now:      func() time.Time { return w.now },
	})
	return w
}

// policy is every instance's.
type policy emailprovider.Policy

func (p policy) Policy(context.Context, string) (emailprovider.Policy, error) {
	return emailprovider.Policy(p), nil
}

// always is the current key of every instance.
func always(key uint32) func(string) uint32 { return func(string) uint32 { return key } }

func smtp(auth emailprovider.AuthSettings) emailprovider.SMTPSettings {
	return emailprovider.SMTPSettings{
		SenderAddress: "sender@example.com", SenderName: "Sender", Host: "mail.example.com:587", TLS: true, User: "user", Auth: auth,
	}
}

func password(p string) emailprovider.AuthSettings {
	return emailprovider.AuthSettings{Secret: secret.New(p)}
}

func xoauth2(clientSecret string) emailprovider.AuthSettings {
	return emailprovider.AuthSettings{
		Choice: emailprovider.ChooseXOAuth2, Secret: secret.New(clientSecret),
		XOAuth2: emailprovider.XOAuth2{TokenEndpoint: "https://login.example.com/token", ClientID: "client", Scopes: []string{"mail"}},
	}
}

func (w *world) add(in emailprovider.SMTPSettings) emailprovider.Provider {
	w.t.Helper()
	p, err := w.AddSMTP(w.t.Context(), by, in)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// sends returns the secret that the next mail through a provider would carry.
func (w *world) sends(id string) emailprovider.Route {
	w.t.Helper()
	if err := w.TestStored(w.t.Context(), by, id, "r@example.com"); err != nil {
		w.t.Fatal(err)
	}
	return w.mailer.last()
}

func (w *world) events(id string) []emailprovider.Event {
	w.t.Helper()
	events, err := w.store.Events(w.t.Context(), instance.Default, id, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return events
}

func wantFault(t *testing.T, err error, kind fault.Kind, id string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != kind || f.ID != id {
		t.Errorf("err = %v, want kind %d and id %s", err, kind, id)
	}
}

// TestAuthOnUpdate is every way of saying how to authenticate, on every stored one.
func TestAuthOnUpdate(t *testing.T) {
	none := emailprovider.AuthSettings{Choice: emailprovider.ChooseNone}
	plain := func(p string) emailprovider.AuthSettings {
		return emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain, Secret: secret.New(p)}
	}
	for _, c := range []struct {
		stored, update string
		from, to       emailprovider.AuthSettings
		want           emailprovider.Auth
		secret         string
		id             string // of the error
	}{
		{"plain", "nothing", password("p"), password(""), emailprovider.AuthPlain, "p", ""},
		{"plain", "password", password("p"), password("q"), emailprovider.AuthPlain, "q", ""},
		{"plain", "plain without", password("p"), plain(""), emailprovider.AuthPlain, "p", ""},
		{"plain", "plain with", password("p"), plain("q"), emailprovider.AuthPlain, "q", ""},
		{"plain", "none", password("p"), none, emailprovider.AuthNone, "", ""},
		{"plain", "xoauth2 with", password("p"), xoauth2("s"), emailprovider.AuthXOAuth2, "s", ""},
		{"plain", "xoauth2 without", password("p"), xoauth2(""), 0, "", "MAILKEEP-XOAUTH2"},
		{"none", "nothing", none, password(""), emailprovider.AuthNone, "", ""},
		{"none", "password", none, password("q"), emailprovider.AuthPlain, "q", ""},
		{"none", "plain without", none, plain(""), emailprovider.AuthNone, "", ""},
		{"none", "none", none, none, emailprovider.AuthNone, "", ""},
		{"none", "xoauth2 without", none, xoauth2(""), 0, "", "MAILKEEP-XOAUTH2"},
		{"xoauth2", "nothing", xoauth2("s"), password(""), emailprovider.AuthXOAuth2, "s", ""},
		{"xoauth2", "password", xoauth2("s"), password("q"), emailprovider.AuthPlain, "q", ""},
		{"xoauth2", "plain without", xoauth2("s"), plain(""), emailprovider.AuthNone, "", ""},
		{"xoauth2", "plain with", xoauth2("s"), plain("q"), emailprovider.AuthPlain, "q", ""},
		{"xoauth2", "none", xoauth2("s"), none, emailprovider.AuthNone, "", ""},
		{"xoauth2", "xoauth2 with", xoauth2("s"), xoauth2("z"), emailprovider.AuthXOAuth2, "z", ""},
		{"xoauth2", "xoauth2 without", xoauth2("s"), xoauth2(""), emailprovider.AuthXOAuth2, "s", ""},
	} {
		t.Run(c.stored+"/"+c.update, func(t *testing.T) {
			w := newWorld(t, emailprovider.Strict)
			p := w.add(smtp(c.from))
			in := smtp(c.to)
			in.Description = "changed"
			_, err := w.UpdateSMTP(t.Context(), by, p.ID, in)
			if c.id != "" {
				wantFault(t, err, fault.InvalidArgument, c.id)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			via := w.sends(p.ID)
			if via.SMTP.Auth != c.want || via.Secret.Reveal() != c.secret {
				t.Errorf("sends with %v and %q, want %v and %q", via.SMTP.Auth, via.Secret.Reveal(), c.want, c.secret)
			}
			if c.want != emailprovider.AuthXOAuth2 && via.SMTP.XOAuth2.TokenEndpoint != "" {
				t.Error("the XOAUTH2 settings are left behind")
			}
		})
	}
}

// TestCredentialBinding changes each setting that a secret belongs to, in both modes.
func TestCredentialBinding(t *testing.T) {
	changes := map[string]func(*emailprovider.SMTPSettings){
		"host":           func(in *emailprovider.SMTPSettings) { in.Host = "evil.example.com:587" },
		"port":           func(in *emailprovider.SMTPSettings) { in.Host = "mail.example.com:25" },
		"user":           func(in *emailprovider.SMTPSettings) { in.User = "other" },
		"no user":        func(in *emailprovider.SMTPSettings) { in.User = "" },
		"tls":            func(in *emailprovider.SMTPSettings) { in.TLS = false },
		"token endpoint": func(in *emailprovider.SMTPSettings) { in.Auth.XOAuth2.TokenEndpoint = "https://evil.example.com/" },
		"client id":      func(in *emailprovider.SMTPSettings) { in.Auth.XOAuth2.ClientID = "other" },
	}
	for name, change := range changes {
		for _, auth := range []emailprovider.AuthSettings{password("hidden"), xoauth2("hidden")} {
			if strings.Contains("token endpoint client id", name) && auth.Choice != emailprovider.ChooseXOAuth2 {
				continue
			}
			t.Run(fmt.Sprint(name, auth.Choice), func(t *testing.T) {
				without := smtp(auth)
				without.Auth.Secret = secret.Text{}
				change(&without)
				with := without
				with.Auth.Secret = secret.New("brought along")

				strict := newWorld(t, emailprovider.Strict)
				p := strict.add(smtp(auth))
				_, err := strict.UpdateSMTP(t.Context(), by, p.ID, without)
				wantFault(t, err, fault.FailedPrecondition, "MAILKEEP-BIND")
				if n := len(strict.events(p.ID)); n != 1 {
					t.Errorf("%d events after a refusal", n)
				}
				if _, err := strict.UpdateSMTP(t.Context(), by, p.ID, with); err != nil {
					t.Fatal(err)
				}
				if got := strict.sends(p.ID).Secret.Reveal(); got != "brought along" {
					t.Errorf("sends %q", got)
				}

				compatible := newWorld(t, emailprovider.Compatible)
				p = compatible.add(smtp(auth))
				if _, err := compatible.UpdateSMTP(t.Context(), by, p.ID, without); err != nil {
					t.Fatal(err)
				}
				via, events := compatible.sends(p.ID), compatible.events(p.ID)
				if via.Secret.Reveal() != "hidden" || via.CredentialVersion != 1 {
					t.Errorf("sends %q, version %d", via.Secret.Reveal(), via.CredentialVersion)
				}
				if last := events[len(events)-1]; !last.KeptCredential {
					t.Errorf("the event does not say that the secret moved: %+v", last)
				}
			})
		}
	}
}

func TestMoreSecurityKeepsTheSecret(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	in := smtp(password("p"))
	in.TLS = false
	p := w.add(in)
	secured := smtp(password(""))
	secured.Host = "MAIL.example.com:587" // host names have no case
	if _, err := w.UpdateSMTP(t.Context(), by, p.ID, secured); err != nil {
		t.Fatal(err)
	}
	if got := w.sends(p.ID).Secret.Reveal(); got != "p" {
		t.Errorf("sends %q", got)
	}
}

func TestSetPassword(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	plain := w.add(smtp(password("p")))
	bare := w.add(smtp(emailprovider.AuthSettings{Choice: emailprovider.ChooseNone}))
	oauth := w.add(smtp(xoauth2("s")))
	hook, _, err := w.AddHTTP(t.Context(), by, emailprovider.HTTPSettings{Endpoint: "https://hook.example.com/"})
	if err != nil {
		t.Fatal(err)
	}
	const odd = " pass\twörd 🔑 "
	for _, p := range []emailprovider.Provider{plain, bare} {
		for version := p.Credential.Version + 1; version < 4; version++ {
			got, err := w.SetPassword(t.Context(), by, p.ID, secret.New(odd))
			if err != nil || got.Credential.Version != version {
				t.Fatalf("version %d, %v; want %d", got.Credential.Version, err, version)
			}
			if via := w.sends(p.ID); via.Secret.Reveal() != odd || via.CredentialVersion != version || via.SMTP.Auth != emailprovider.AuthPlain {
				t.Errorf("sends %q with version %d", via.Secret.Reveal(), via.CredentialVersion)
			}
		}
	}
	_, err = w.SetPassword(t.Context(), by, oauth.ID, secret.New("x"))
	wantFault(t, err, fault.FailedPrecondition, "MAILKEEP-XOAUTH2")
	_, err = w.SetPassword(t.Context(), by, hook.ID, secret.New("x"))
	wantFault(t, err, fault.NotFound, "COMMAND-rDHzqjGuKQ")
	_, err = w.SetPassword(t.Context(), by, "", secret.New("x"))
	wantFault(t, err, fault.InvalidArgument, "COMMAND-BCkAf7LcJA")
	for _, bad := range []string{"a\x00b", "a\rb", "a\nb", strings.Repeat("x", 4097), "\xff"} {
		_, err = w.SetPassword(t.Context(), by, plain.ID, secret.New(bad))
		wantFault(t, err, fault.InvalidArgument, "MAILKEEP-VALUE")
		if strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
	if _, err := w.SetPassword(t.Context(), by, plain.ID, secret.New(strings.Repeat("x", 4096))); err != nil {
		t.Error(err)
	}
}

// TestEvents wants one event for each change, in order, that says who did what, and none for what
// changed nothing.
func TestEvents(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	p := w.add(smtp(password("c4n4ry")))
	other := w.add(smtp(password("c4n4ry")))
	for _, change := range []func() (emailprovider.Provider, error){
		func() (emailprovider.Provider, error) { return w.Activate(t.Context(), by, other.ID) },
		func() (emailprovider.Provider, error) { return w.Activate(t.Context(), by, p.ID) },
		func() (emailprovider.Provider, error) { return w.Activate(t.Context(), by, p.ID) },
		func() (emailprovider.Provider, error) {
			return w.SetPassword(t.Context(), by, p.ID, secret.New("c4n4ry"))
		},
		func() (emailprovider.Provider, error) { return w.UpdateSMTP(t.Context(), by, p.ID, smtp(password(""))) },
		func() (emailprovider.Provider, error) {
			return w.UpdateSMTP(t.Context(), by, p.ID, smtp(password("c4n4ry")))
		},
		func() (emailprovider.Provider, error) { return w.Deactivate(t.Context(), by, p.ID) },
		func() (emailprovider.Provider, error) { return w.Deactivate(t.Context(), by, p.ID) },
		func() (emailprovider.Provider, error) { return w.Remove(t.Context(), by, p.ID) },
	} {
		if _, err := change(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, e := range w.events("") {
		got = append(got, fmt.Sprintf("%d %s %t v%d %s %s", e.Sequence, e.Type, e.ProviderID == p.ID, e.CredentialVersion, strings.Join(e.Fields, "+"), e.By.Name))
	}
	const settings = "sender_address+sender_name+tls+host+user+reply_to_address+description+password"
	want := []string{
		"1 provider.added true v1 " + settings + " tester", "2 provider.added false v1 " + settings + " tester",
		"3 provider.activated false v1 state tester", "4 provider.activated true v1 state tester",
		"5 provider.password_changed true v2 password tester", "6 provider.updated true v3 password tester",
		"7 provider.deactivated true v3 state tester", "8 provider.removed true v3  tester",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if strings.Contains(fmt.Sprint(w.events("")), "c4n4ry") {
		t.Error("an event has a secret")
	}
}

// TestDates has a clock that goes back: dates never do.
func TestDates(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	p := w.add(smtp(password("p")))
	w.now = w.now.Add(-time.Hour)
	changed, err := w.SetPassword(t.Context(), by, p.ID, secret.New("q"))
	if err != nil || changed.Changed.Before(p.Changed) || !changed.Created.Equal(p.Created) {
		t.Errorf("created %v, changed %v after %v; %v", changed.Created, changed.Changed, p.Changed, err)
	}
}

// TestConcurrentUpdates has 50 callers change one provider: each gets OK or ABORTED, and there are as
// many events as OKs.
func TestConcurrentUpdates(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	p := w.add(smtp(password("p")))
	var (
		mu sync.Mutex
		ok int
		wg sync.WaitGroup
	)
	for i := range 50 {
		wg.Go(func() {
			in := smtp(password(""))
			in.Description = fmt.Sprint(i)
			_, err := w.UpdateSMTP(t.Context(), by, p.ID, in)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ok++
			} else {
				wantFault(t, err, fault.Aborted, "MAILKEEP-BUSY")
			}
		})
	}
	wg.Wait()
	if n := len(w.events(p.ID)); n != ok+1 || ok == 0 {
		t.Errorf("%d events for %d updates and one addition", n, ok)
	}
}

func TestConcurrentActivates(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	var ids []string
	for range 8 {
		ids = append(ids, w.add(smtp(password("p"))).ID)
	}
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			if _, err := w.Activate(t.Context(), by, id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	page, _, err := w.List(t.Context(), instance.Default, emailprovider.Query{})
	if err != nil {
		t.Fatal(err)
	}
	active := 0
	for _, p := range page.Providers {
		if p.State == emailprovider.Active {
			active++
		}
	}
	if active != 1 {
		t.Errorf("%d are active", active)
	}
}

func TestHTTP(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	p, key, err := w.AddHTTP(t.Context(), by, emailprovider.HTTPSettings{Endpoint: "https://hook.example.com/mail?x=1"})
	if err != nil {
		t.Fatal(err)
	}
	if k := key.Reveal(); len(k) != 36 || strings.Trim(k, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") != "" {
		t.Errorf("signing key %q", k)
	}
	same, none, err := w.UpdateHTTP(t.Context(), by, p.ID, emailprovider.HTTPSettings{Endpoint: "https://hook.example.com/mail?x=1"})
	if err != nil || !none.Empty() || same.Sequence != p.Sequence {
		t.Errorf("an update of nothing: %v, %v", same.Sequence, err)
	}
	moved, _, err := w.UpdateHTTP(t.Context(), by, p.ID, emailprovider.HTTPSettings{Endpoint: "https://other.example.com/"})
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := w.SigningKey(moved); err != nil || stored.Reveal() != key.Reveal() {
		t.Errorf("the key after an update: %v", err)
	}
	renewed, second, err := w.UpdateHTTP(t.Context(), by, p.ID, emailprovider.HTTPSettings{Endpoint: "https://other.example.com/", NewSigningKey: true})
	if err != nil || second.Empty() || second.Reveal() == key.Reveal() || renewed.Credential.Version != 2 {
		t.Errorf("a new key: version %d, %v", renewed.Credential.Version, err)
	}
	_, _, err = w.UpdateHTTP(t.Context(), by, w.add(smtp(password("p"))).ID, emailprovider.HTTPSettings{Endpoint: "https://e.example/"})
	wantFault(t, err, fault.NotFound, "COMMAND-xIrdledqv4")
	_, err = w.UpdateSMTP(t.Context(), by, p.ID, smtp(password("p")))
	wantFault(t, err, fault.NotFound, "COMMAND-j5IDFtt3T1")
	wantFault(t, w.TestStored(t.Context(), by, p.ID, "r@example.com"), fault.NotFound, "SMTP-99klw")
}

// TestBadValues is what the fields of a provider may not be; nothing is stored.
func TestBadValues(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	set := func(change func(*emailprovider.SMTPSettings, string)) func(string) error {
		return func(v string) error {
			in := smtp(password("p"))
			change(&in, v)
			_, err := w.AddSMTP(t.Context(), by, in)
			return err
		}
	}
	host := set(func(in *emailprovider.SMTPSettings, v string) { in.Host = v })
	sender := set(func(in *emailprovider.SMTPSettings, v string) { in.SenderAddress = v })
	name := set(func(in *emailprovider.SMTPSettings, v string) { in.SenderName = v })
	user := set(func(in *emailprovider.SMTPSettings, v string) { in.User = v })
	endpoint := func(v string) error {
		_, _, err := w.AddHTTP(t.Context(), by, emailprovider.HTTPSettings{Endpoint: v})
		return err
	}
	tokens := set(func(in *emailprovider.SMTPSettings, v string) {
		in.Auth = xoauth2("s")
		in.Auth.XOAuth2.TokenEndpoint = v
	})
	scope := set(func(in *emailprovider.SMTPSettings, v string) {
		in.Auth = xoauth2("s")
		in.Auth.XOAuth2.Scopes = []string{v}
	})
	for _, c := range []struct {
		what   string
		set    func(string) error
		id     string
		values []string
	}{
		{"host", host, "COMMAND-EvAtufIinh", []string{
			"", "h", ":25", "h:0", "h:65536", "h:smtp", "h:+25", "h:", "user:pw@h:25", "smtp://h:25", "h:25/x", "h\r\nx:25", "h\x00:25",
			"h i:25", "[::1:25", "[h]:25", "::1:25", "[127.0.0.1]:25", "[fe80::1%25eth0]:25\n", "...:25", "-:25", "a..b:25", "h-:25", ".:25", "h:0587", "é:25", strings.Repeat("h", 254) + ":25",
		}},
		{"sender", sender, "COMMAND-SAAFpV8VKV", []string{"", "  "}},
		{"sender", sender, "MAILKEEP-VALUE", []string{"a", "Name <a@b.c>", "a@b.c,d@e.f", "a@b..c", "a@b.c\r\nBcc: x@y.z", `"a b"@c.d`}},
		{"name", name, "MAILKEEP-VALUE", []string{"a\r\nb", "a\x00", "a\x7f", "\x1b[31m", "\xff"}},
		{"user", user, "MAILKEEP-VALUE", []string{"a\x00", "a\n", "a\r", strings.Repeat("u", 4097)}},
		{"endpoint", endpoint, "COMMAND-Sz84nFo3aK", []string{
			"", "h", "/path", "//h", "ftp://h", "http:h", "http://", "http://u:p@h", "http://u@h", "https://h#f", "https://h/#", "http://h:99999",
			"http://h:0", "http://h:", "http://h\\x", "http://h /", "http://h\n", "http://[::1", "javascript:alert(1)", "http://%zz",
		}},
		{"token endpoint", tokens, "MAILKEEP-VALUE", []string{"", "h", "http://u:p@h"}},
		{"scope", scope, "MAILKEEP-VALUE", []string{"a b", "a\"b", "a\\b", "é"}},
	} {
		for _, v := range c.values {
			t.Run(fmt.Sprintf("%s %.40q", c.what, v), func(t *testing.T) { wantFault(t, c.set(v), fault.InvalidArgument, c.id) })
		}
	}
	if n := len(w.events("")); n != 0 {
		t.Fatalf("%d events after nothing but refusals", n)
	}
	for what, try := range map[string]error{
		"padded host": host(" h:25 "), "IPv6": host("[::1]:25"), "name with emoji": name("Käse 🧀 株式会社"), "user with spaces": user(" ü "),
		"endpoint with port": endpoint("http://127.0.0.1:8080/x?y=z"), "scope": scope("https://outlook.office.com/.default"),
	} {
		if try != nil {
			t.Errorf("%s: %v", what, try)
		}
	}
	padded := smtp(password("p"))
	padded.Host, padded.SenderAddress = " h:25 ", " a@b.c "
	if p := w.add(padded); p.SMTP.Host != "h:25" || p.SMTP.SenderAddress != "a@b.c" {
		t.Errorf("stored %q and %q", p.SMTP.Host, p.SMTP.SenderAddress)
	}
}

func TestSenderDomains(t *testing.T) {
	w := newWorld(t, emailprovider.Strict, "example.com")
	for sender, ok := range map[string]bool{
		"a@example.com": true, "a@EXAMPLE.com": true, "a@sub.example.com": false, "a@example.com.evil.org": false, "a@evil.org": false,
	} {
		in := smtp(password("p"))
		in.SenderAddress = sender
		if _, err := w.AddSMTP(t.Context(), by, in); ok != (err == nil) {
			t.Errorf("%s: %v", sender, err)
		} else if !ok {
			wantFault(t, err, fault.InvalidArgument, "INST-xtWIiR2ZbR")
		}
	}
}

func TestTestValues(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	stored := w.add(smtp(password("stored")))
	oauth := w.add(smtp(xoauth2("stored")))
	bare := w.add(smtp(emailprovider.AuthSettings{Choice: emailprovider.ChooseNone}))
	none := emailprovider.AuthSettings{Choice: emailprovider.ChooseNone}
	plain := emailprovider.AuthSettings{Choice: emailprovider.ChoosePlain}
	for _, c := range []struct {
		name   string
		id     string
		in     emailprovider.SMTPSettings
		auth   emailprovider.Auth
		secret string
		kind   fault.Kind
		fault  string
	}{
		{"own password", "", smtp(password("own")), emailprovider.AuthPlain, "own", 0, ""},
		{"own password with id", stored.ID, smtp(password("own")), emailprovider.AuthPlain, "own", 0, ""},
		{"stored password", stored.ID, smtp(password("")), emailprovider.AuthPlain, "stored", 0, ""},
		{"stored password as plain", stored.ID, smtp(plain), emailprovider.AuthPlain, "stored", 0, ""},
		{"stored client secret, older methods", oauth.ID, smtp(password("")), emailprovider.AuthXOAuth2, "stored", 0, ""},
		{"stored client secret", oauth.ID, smtp(xoauth2("")), emailprovider.AuthXOAuth2, "stored", 0, ""},
		{"client secret as a password", oauth.ID, smtp(plain), 0, "", fault.FailedPrecondition, "MAILKEEP-BIND"},
		{"password as a client secret", stored.ID, smtp(xoauth2("")), 0, "", fault.FailedPrecondition, "MAILKEEP-BIND"},
		{"none", "", smtp(none), emailprovider.AuthNone, "", 0, ""},
		{"none with id", stored.ID, smtp(none), emailprovider.AuthNone, "", 0, ""},
		{"id of one without a secret", bare.ID, smtp(password("")), emailprovider.AuthNone, "", 0, ""},
		{"plain without password", "", smtp(plain), 0, "", fault.InvalidArgument, "SMTP-p9kj"},
		{"xoauth2 without secret", "", smtp(xoauth2("")), 0, "", fault.InvalidArgument, "SMTP-9OP96s"},
		{"unknown id", "123456789012345678", smtp(password("own")), 0, "", fault.NotFound, "SMTP-p9cc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := len(w.mailer.routes)
			err := w.TestValues(t.Context(), by, c.id, c.in, "r@example.com")
			if c.fault != "" {
				wantFault(t, err, c.kind, c.fault)
				if len(w.mailer.routes) != sent {
					t.Error("a mail was sent")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if via := w.mailer.last(); via.SMTP.Auth != c.auth || via.Secret.Reveal() != c.secret {
				t.Errorf("sent with %v and %q", via.SMTP.Auth, via.Secret.Reveal())
			}
		})
	}
	wantFault(t, w.TestValues(t.Context(), by, "", smtp(none), " "), fault.InvalidArgument, "SMTP-p9uy")
	wantFault(t, w.TestStored(t.Context(), by, stored.ID, ""), fault.InvalidArgument, "SMTP-99yth")
	wantFault(t, w.TestStored(t.Context(), by, "", "r@example.com"), fault.InvalidArgument, "SMTP-99oki")
}

// TestDeliveryFaults walks every step, so that none is forgotten when one is added.
func TestDeliveryFaults(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	plain, oauth := w.add(smtp(password("p"))), w.add(smtp(xoauth2("s")))
	ids := map[emailprovider.Step]string{
		"dial": "EMAIL-skwos", "tls": "EMAIL-sl39s", "ehlo": "EMAIL-skwi4", "starttls": "EMAIL-guvsQ", "token": "EMAIL-av88SB",
		"auth": "EMAIL-s9kfs", "from": "EMAIL-s5is5", "recipient": "EMAIL-s6is6", "data": "MAILKEEP-DATA", "post": "MAILKEEP-POST",
	}
	for _, step := range emailprovider.Steps() {
		for temporary, kind := range map[bool]fault.Kind{true: fault.Unavailable, false: fault.FailedPrecondition} {
			w.mailer.fail = &emailprovider.DeliveryError{Step: step, Code: 500, Text: "no", Temporary: temporary}
			err := w.TestStored(t.Context(), by, plain.ID, "r@example.com")
			wantFault(t, err, kind, ids[step])
			if !strings.Contains(err.Error(), string(step)) || !strings.Contains(err.Error(), "500 no") {
				t.Errorf("%v", err)
			}
		}
	}
	w.mailer.fail = &emailprovider.DeliveryError{Step: emailprovider.StepAuth, Code: 535, Text: "no"}
	wantFault(t, w.TestStored(t.Context(), by, oauth.ID, "r@example.com"), fault.FailedPrecondition, "EMAIL-av88SB")
}

// TestKeyRotation has changes go on while everything is sealed again.
func TestKeyRotation(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	var all []emailprovider.Provider
	for i := range 250 { // more than one batch
		all = append(all, w.add(smtp(password(fmt.Sprint("p", i)))))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, p := range all[:50] {
			in := smtp(password(""))
			in.Description = "changed"
			if _, err := w.UpdateSMTP(t.Context(), by, p.ID, in); err != nil {
				t.Error(err)
			}
		}
	})
	primary, err := w.keyset.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := emailprovider.Reseal(t.Context(), w.store, w.keyset, always(primary)); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if keys, err := w.store.KeysInUse(t.Context()); err != nil || !slices.Equal(keys, []uint32{primary}) {
		t.Errorf("in use: %v, %v; want %d only", keys, err, primary)
	}
	for i, p := range all {
		if got := w.sends(p.ID).Secret.Reveal(); got != fmt.Sprint("p", i) {
			t.Fatalf("provider %d sends %q", i, got)
		}
	}
}

// lateChange is a vault in which, at the first reseal, a change lands that was decided before.
type lateChange struct {
	emailprovider.Vault
	apply func()
}

func (l *lateChange) Reseal(ctx context.Context, p emailprovider.Provider, sealed emailprovider.Sealed) error {
	if l.apply != nil {
		l.apply()
		l.apply = nil
	}
	return l.Vault.Reseal(ctx, p, sealed)
}

// TestKeyRotationLosesTheRace has a password that was sealed with the old key stored while its
// provider is being resealed.
func TestKeyRotationLosesTheRace(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	p := w.add(smtp(password("p")))
	before, err := seal.Load(w.keyfile) // seals with the old key for ever
	if err != nil {
		t.Fatal(err)
	}
	old := emailprovider.NewService(emailprovider.Config{Store: w.store, Sealer: before, Policies: w.Policies, Now: w.Now, Log: w.Log})
	primary, err := w.keyset.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	vault := &lateChange{w.store, func() {
		if _, err := old.SetPassword(t.Context(), by, p.ID, secret.New("q")); err != nil {
			t.Error(err)
		}
	}}
	if n, err := emailprovider.Reseal(t.Context(), vault, w.keyset, always(primary)); n != 1 || err != nil {
		t.Errorf("resealed %d, %v", n, err)
	}
	if keys, err := w.store.KeysInUse(t.Context()); err != nil || !slices.Equal(keys, []uint32{primary}) {
		t.Errorf("in use: %v, %v; want %d only", keys, err, primary)
	}
	if got := w.sends(p.ID).Secret.Reveal(); got != "q" {
		t.Errorf("sends %q", got)
	}
}

// fullVault has no space for a second secret.
type fullVault struct {
	emailprovider.Vault
	resealed int
}

func (v *fullVault) Reseal(ctx context.Context, p emailprovider.Provider, sealed emailprovider.Sealed) error {
	if v.resealed++; v.resealed > 1 {
		return fault.New(fault.ResourceExhausted, "MAILKEEP-STORE", "the store has no space left")
	}
	return v.Vault.Reseal(ctx, p, sealed)
}

// TestKeyRotationIsNotFinished says what was done when the store fails in between, and goes on with the
// next rotation.
func TestKeyRotationIsNotFinished(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	w.add(smtp(password("p")))
	w.add(smtp(password("p")))
	primary, err := w.keyset.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	n, err := emailprovider.Reseal(t.Context(), &fullVault{Vault: w.store}, w.keyset, always(primary))
	if wantFault(t, err, fault.ResourceExhausted, "MAILKEEP-RESEAL"); n != 1 || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("resealed %d, %v", n, err)
	}
	if n, err := emailprovider.Reseal(t.Context(), w.store, w.keyset, always(primary)); n != 1 || err != nil {
		t.Errorf("resealed %d afterwards, %v", n, err)
	}
}

// TestDamage has one secret that does not open: it is that provider's trouble only, and is cured by a
// new password.
func TestDamage(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	damaged, sound := w.add(smtp(password("p"))), w.add(smtp(password("p")))
	stored, err := w.store.Provider(t.Context(), instance.Default, damaged.ID)
	if err != nil {
		t.Fatal(err)
	}
	broken := emailprovider.Sealed{KeyID: stored.Credential.Sealed.KeyID, Ciphertext: slices.Clone(stored.Credential.Sealed.Ciphertext)}
	broken.Ciphertext[len(broken.Ciphertext)-1] ^= 1
	if err := w.store.Reseal(t.Context(), stored, broken); err != nil {
		t.Fatal(err)
	}
	wantFault(t, w.TestStored(t.Context(), by, damaged.ID, "r@example.com"), fault.FailedPrecondition, "MAILKEEP-SEALED")
	w.sends(sound.ID)
	if err := emailprovider.CheckKeys(t.Context(), w.store, w.keyset); err != nil {
		t.Errorf("one damaged secret keeps the service from starting: %v", err)
	}
	primary, err := w.keyset.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := emailprovider.Reseal(t.Context(), w.store, w.keyset, always(primary)); n != 1 || fault.KindOf(err) != fault.FailedPrecondition || !strings.Contains(err.Error(), damaged.ID) {
		t.Errorf("resealed %d, %v", n, err)
	}
	if _, err := w.SetPassword(t.Context(), by, damaged.ID, secret.New("q")); err != nil {
		t.Fatal(err)
	}
	if got := w.sends(damaged.ID).Secret.Reveal(); got != "q" {
		t.Errorf("sends %q", got)
	}
	other, err := seal.Create(&keyfile{})
	if err != nil {
		t.Fatal(err)
	}
	err = emailprovider.CheckKeys(t.Context(), w.store, other)
	if err == nil || !strings.Contains(err.Error(), damaged.ID) || !strings.Contains(err.Error(), sound.ID) {
		t.Errorf("a foreign keyset: %v", err)
	}
}
