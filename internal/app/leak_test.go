package app_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
	"github.com/mailkeep/mailkeep/internal/secret/secrettest"
)

// leaks watches what a service shows of the secrets that it is given.
type leaks struct {
	*service
	t       *testing.T
	secrets secrettest.Scanner
	heard   *recording
	client  map[httpVersion]*http.Client // of which everything that is answered is heard
	found   map[string]int               // by where and what
	scanned int                          // bytes
}

// recording is everything that clients were answered.
type recording struct {
	mu   sync.Mutex
	what bytes.Buffer
}

// add keeps an answer as it came, and decompressed.
func (r *recording) add(res *http.Response) error {
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, header := range []http.Header{res.Header, res.Trailer} {
		if err := header.Write(&r.what); err != nil {
			return err
		}
	}
	r.what.Write(body)
	if plain, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
		_, _ = io.Copy(&r.what, plain) // as far as it goes
	}
	return nil
}

func (r *recording) take() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.what.Reset()
	return bytes.Clone(r.what.Bytes())
}

func watchLeaks(t *testing.T, c app.Config) *leaks {
	l := &leaks{t: t, heard: new(recording), client: map[httpVersion]*http.Client{}, found: map[string]int{}}
	l.service = start(t, c)
	for _, v := range []httpVersion{http1, http2} {
		client := l.service.client(v)
		inner := client.Transport
		client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := inner.RoundTrip(r)
			if err == nil {
				err = l.heard.add(res)
			}
			return res, err
		})
		l.client[v] = client
	}
	return l
}

// canary is a new secret that nobody may see.
func (l *leaks) canary(name string) string {
	s := secrettest.Canary(name)
	l.secrets.Watch(name, s)
	return s
}

// scan looks for secrets in what came from somewhere.
func (l *leaks) scan(where string, data []byte) {
	l.scanned += len(data)
	for _, what := range l.secrets.Find(data) {
		l.found[where+": "+what]++
	}
}

// scanFiles looks for secrets in all files of a folder but those that are made to hold some.
func (l *leaks) scanFiles(folder string, but ...string) {
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || slices.Contains(but, entry.Name()) {
			return err
		}
		data, err := os.ReadFile(path)
		l.scan("the file "+entry.Name(), data)
		return err
	})
	if err != nil {
		l.t.Error(err)
	}
}

// calls makes every call that takes a secret, or has one, over a wire.
func (l *leaks) calls(w wire) {
	name := func(what string) string { return strings.ReplaceAll(what+" over "+w.name, " ", "-") }
	run := &mailRun{t: l.t, s: l.service, wire: w, inbox: nil}
	try := func(method string, fields map[string]any) fields {
		body, err := json.Marshal(fields)
		if err != nil {
			l.t.Fatal(err)
		}
		a := run.try(method, string(body))
		l.scan("the error of "+method, []byte(a.message))
		return a.fields
	}
	good, bad := l.canary(name("password")), l.canary(name("wrong-password"))
	server := inbox(l.t, good)
	smtp := map[string]any{"senderAddress": "s@example.com", "senderName": "S", "host": server.Addr(), "user": user, "password": good}
	with := func(more map[string]any) map[string]any { m := maps.Clone(smtp); maps.Copy(m, more); return m }

	run.provider, _ = try("AddEmailProviderSMTP", smtp)["id"].(string)
	id := map[string]any{"id": run.provider}
	and := func(more map[string]any) map[string]any { m := maps.Clone(id); maps.Copy(m, more); return m }
	try("ActivateEmailProvider", id)
	try("TestEmailProviderSMTP", with(map[string]any{"receiverAddress": "you@example.com"}))
	try("TestEmailProviderSMTP", with(map[string]any{"receiverAddress": "you@example.com", "password": bad}))
	try("UpdateEmailProviderSMTP", and(with(map[string]any{"description": "relay"})))
	try("UpdateSMTPConfigPassword", and(map[string]any{"password": bad}))
	try("UpdateEmailProviderSMTPPassword", and(map[string]any{"password": good}))
	try("RotatePassword", and(map[string]any{"password": bad}))
	if rotated := try("RotatePassword", and(map[string]any{"password": good})); rotated["changeDate"] == nil {
		l.t.Errorf("over %s the right password is refused", w.name)
	}
	try("RollbackPassword", id)
	try("VerifySettings", map[string]any{"smtp": map[string]any{"host": server.Addr(), "user": user, "password": good}})
	try("UpdateEmailProviderSMTPPassword", and(map[string]any{"password": good + "\x00"}))
	try("AddSMTPConfig", with(map[string]any{"senderAddress": "nobody"}))

	echo := echoes(l.t)
	try("TestEmailProviderSMTP", with(map[string]any{"receiverAddress": "you@example.com", "host": echo.Addr()}))
	token := tokenEndpoint(l.t)
	oauth := map[string]any{
		"senderAddress": "s@example.com", "senderName": "S", "host": echo.Addr(), "user": user,
		"xoauth2": map[string]any{"tokenEndpoint": token, "clientCredentials": map[string]any{"clientId": "client", "clientSecret": l.canary(name("client-secret"))}},
	}
	added, _ := try("AddEmailProviderSMTP", oauth)["id"].(string)
	try("TestEmailProviderSMTPById", map[string]any{"id": added, "receiverAddress": "you@example.com"})
	try("VerifyProvider", map[string]any{"id": added})

	mail, _ := try("SendMessage", map[string]any{
		"to": []string{"you@example.com"}, "subject": "Hello", "text": l.canary(name("text")), "html": l.canary(name("html")),
		"attachments": []map[string]any{{"name": "a.txt", "contentType": "text/plain", "data": []byte(l.canary(name("attachment")))}},
	})["id"].(string)
	eventually(l.t, soon, "delivered, as the log says", func() bool {
		return mail != "" && strings.Contains(l.log.String(), `level=DEBUG msg="mail delivered" instance=default message=`+mail)
	})
	try("ListProviderEvents", id)
	try("ListEvents", map[string]any{})
	try("ListMessages", map[string]any{})
	try("GetProviderStatus", id)
	l.scan("an answer", l.heard.take())

	// What follows is told its secret, this once.
	hook, _ := try("AddEmailProviderHTTP", map[string]any{"endpoint": "https://example.com/hook"})["signingKey"].(string)
	made := try("CreateToken", map[string]any{"name": name("token"), "roles": []string{"IAM_OWNER"}})
	bearer, _ := made["secret"].(string)
	if run.provider == "" || added == "" || hook == "" || bearer == "" {
		l.t.Fatalf("over %s: provider %q, with XOAUTH2 %q, key %d, token %d bytes", w.name, run.provider, added, len(hook), len(bearer))
	}
	l.secrets.Watch(name("signing-key"), hook)
	l.secrets.Watch(name("bearer"), bearer)
	l.heard.take()
	w.call(l.t, bearer, methods()["ListTokens"], message(l.t, "mailkeep.v1.ListTokensRequest", "{}"))
	w.call(l.t, bearer+"x", methods()["ListTokens"], message(l.t, "mailkeep.v1.ListTokensRequest", "{}"))
	w.call(l.t, l.asToken(name("made-up-bearer")), methods()["ListTokens"], message(l.t, "mailkeep.v1.ListTokensRequest", "{}"))
	try("RemoveEmailProvider", map[string]any{"id": added})
	try("RemoveEmailProvider", id)
	l.scan("an answer", l.heard.take())
}

// asToken is a canary that can stand in a header.
func (l *leaks) asToken(name string) string {
	token := "c4n4ry." + name + ".p+ss/w=rd~y4n4c"
	l.secrets.Watch(name, token)
	return token
}

// mistakes sends what is wrong with a request, and has a secret in it.
func (l *leaks) mistakes() {
	const path = "/admin/v1/smtp/1/password"
	const rpc = "/zitadel.admin.v1.AdminService/UpdateSMTPConfigPassword"
	text := l.canary("in-a-mistake")
	quoted, _ := json.Marshal(text)
	for _, body := range []string{
		`{"password":` + string(quoted), `{"password":{"is":` + string(quoted) + `}}`, `{` + string(quoted) + `:1}`, string(quoted),
		`{"password":` + string(quoted) + `,"password":1}`, `{"password":"` + text + "\xff\"}", `{"password":` + string(quoted) + `} ` + text,
		`{"password":"` + strings.Repeat(text, 10) + `"}`, `{"password":"` + strings.Repeat(text, 3000) + `"}`,
	} {
		for _, to := range []raw{
			{verb: "PUT", path: path}, {verb: "POST", path: rpc, header: map[string]string{"Content-Type": "application/json"}},
			{verb: "POST", path: rpc, header: map[string]string{"Content-Type": "application/proto"}},
			{verb: "POST", path: rpc, header: map[string]string{"Content-Type": "application/grpc-web+json"}},
		} {
			to.body = body
			l.service.send(l.t, l.client[http1], to)
		}
	}
	bearer := l.asToken("in-the-wrong-place")
	for name, value := range map[string]string{
		"Authorization": "Basic " + bearer, "Cookie": "token=" + bearer, "X-Api-Key": bearer, "Proxy-Authorization": "Bearer " + bearer,
	} {
		l.service.send(l.t, l.client[http1], raw{"GET", "/admin/v1/email", map[string]string{name: value}, ""})
	}
	for _, at := range []string{"/admin/v1/email?access_token=" + bearer, rpc + "?password=" + bearer, "/nowhere?token=" + bearer} {
		l.service.send(l.t, l.client[http1], raw{verb: "GET", path: at})
	}
	l.scan("an answer to a mistake", l.heard.take())
}

// echoes is a mail server that repeats what it is told.
func echoes(t *testing.T) *smtptest.Hostile {
	server, err := smtptest.StartHostile(smtptest.Script{AuthOffer: "PLAIN XOAUTH2", Answers: map[string]smtptest.Answer{
		smtptest.Auth: smtptest.Echo("535 5.7.8 no: %s\r\n"), smtptest.Response: smtptest.Echo("535 5.7.8 no: %s\r\n"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

// tokenEndpoint is a token endpoint that refuses, and repeats what it was asked.
func tokenEndpoint(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{
			"error": "invalid_client", "error_description": string(body) + " " + r.Header.Get("Authorization"),
		})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// failing is a store with a defect: of some changes it panics, with what it should not say; of others it returns an
// error that has the change in it.
type failing struct {
	app.Store
	says string
}

// Apply implements emailprovider.Store.
func (f failing) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	if c.Put != nil && c.Put.Description == "panic" {
		panic(f.says)
	}
	if c.Put != nil && c.Put.Description == "fail" {
		return 0, fmt.Errorf("no room for %+v, %v", c, *c.Put)
	}
	return f.Store.Apply(ctx, c)
}

// TestNoSecretLeaks gives a service secrets in every way there is, with debug logging, panics and failures of the
// database, and looks for them in everything that comes out of it.
func TestNoSecretLeaks(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		c := config(t)
		l := scanned(t, c, "rest/h1", "connect+json/h1", "connect+gzip/h2", "grpcweb-text/h1", "grpc/h2")
		to := filepath.Join(t.TempDir(), "mailkeep.backup")
		if err := backupOnce(c.DataDir, to); err != nil {
			t.Fatal(err)
		}
		l.scanFiles(filepath.Dir(to))
		l.scanFiles(c.DataDir, "keyset.json", "admin.token")
		l.report()
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		cluster := pgtest.Cluster(t, pgcluster.Options{InMemory: true, Settings: map[string]string{
			"log_statement": "all", "log_parameter_max_length_on_error": "-1", "log_min_messages": "info",
		}})
		if err := cluster.CreateDatabase(t.Context(), database); err != nil {
			t.Fatal(err)
		}
		c := replica(t, cluster.URL(database), filepath.Join(t.TempDir(), "keyset.json"))
		l := scanned(t, c, "rest/h1", "grpc/h2")
		l.scanFiles(cluster.Folder())
		l.report()
	})
}

// scanned has a service meet every secret over some wires, and looks at what it answers and logs.
func scanned(t *testing.T, c app.Config, over ...string) *leaks {
	says := secrettest.Canary("in-a-panic")
	c.KeepPrevious, c.KeepBodies, c.AdminListen = time.Hour, true, "127.0.0.1:0"
	c.WrapStore = func(s app.Store) app.Store { return failing{s, says} }
	l := watchLeaks(t, c)
	l.secrets.Watch("in-a-panic", says)
	l.secrets.Watch("the admin token", adminToken)
	wires := append(l.wiresOf(l.client[http1], http1), l.wiresOf(l.client[http2], http2)...)
	for _, w := range wires {
		if slices.Contains(over, w.name) || os.Getenv("MAILKEEP_PROVE") != "" {
			l.calls(w)
		}
	}
	for _, description := range []string{"panic", "fail"} {
		body, _ := json.Marshal(map[string]any{
			"senderAddress": "s@example.com", "senderName": "S", "host": "mail.example.com:587", "description": description,
			"user": user, "password": l.canary("given-to-a-" + description),
		})
		r := l.service.send(t, l.client[http1], raw{"POST", "/admin/v1/email/smtp", nil, string(body)})
		if r.status != http.StatusInternalServerError {
			t.Errorf("%s: %d %s", description, r.status, r.body)
		}
	}
	l.mistakes()
	_, metrics := l.scrape(t)
	l.scan("the metrics", []byte(metrics))
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"panic", "no room for", "level=DEBUG"} {
		if !strings.Contains(l.log.String(), line) {
			t.Errorf("the log has nothing with %q", line)
		}
	}
	l.scan("the log", []byte(l.log.String()))
	return l
}

func (l *leaks) report() {
	l.t.Logf("REL leaks kib=%d found=%d", l.scanned>>10, len(l.found))
	for _, where := range slices.Sorted(maps.Keys(l.found)) {
		l.t.Errorf("%s (%d times)", where, l.found[where])
	}
}

// TestLeaksAreFound has one line that logs requests, as each kind of logging would.
func TestLeaksAreFound(t *testing.T) {
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"JSON": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		l := watchLeaks(t, config(t))
		log := slog.New(handler(l.log))
		wires := l.wiresOf(l.client[http1], http1)
		inner := l.client[http1].Transport
		l.client[http1].Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.GetBody != nil {
				body, _ := r.GetBody()
				text, _ := io.ReadAll(body)
				log.Info("a request", "body", text)
			}
			return inner.RoundTrip(r)
		})
		password := l.canary("password")
		body, _ := json.Marshal(map[string]string{"senderAddress": "s@example.com", "senderName": "S", "host": "mail.example.com:25", "user": user, "password": password})
		m := methods()["AddEmailProviderSMTP"]
		wires[0].call(t, adminToken, m, message(t, string(m.Descriptor.Input().FullName()), string(body)))
		l.scan("the log", []byte(l.log.String()))
		if len(l.found) == 0 {
			t.Errorf("a request in the log as %s is not found:\n%s", name, l.log)
		}
	}
}
