package delivery

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const signingKey = "c4n4rySigningKey0123456789abcdefGHIJ"

// receiver is a webhook that verifies what it gets as any receiver would.
type receiver struct {
	*httptest.Server
	now  time.Time
	conn atomic.Int32 // connections so far

	mu     sync.Mutex
	bodies []string
	faults []string
}

// verify returns what is wrong with a POST.
func (r *receiver) verify(req *http.Request, body []byte) string {
	values := req.Header.Values("ZITADEL-Signature")
	if req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" || len(values) != 1 {
		return fmt.Sprintf("%s %v", req.Method, req.Header)
	}
	stamp, signature, _ := strings.Cut(values[0], ",v1=")
	stamp, ok := strings.CutPrefix(stamp, "t=")
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if !ok || err != nil || unix != r.now.Unix() {
		return "the time of " + values[0]
	}
	given, err := hex.DecodeString(signature)
	mac := hmac.New(sha256.New, []byte(signingKey))
	fmt.Fprintf(mac, "%s.%s", stamp, body)
	if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
		return "the signature of " + values[0]
	}
	return ""
}

// startReceiver starts a webhook; answer decides by the address in the notice.
func startReceiver(t *testing.T, config *tls.Config, answer func(w http.ResponseWriter, recipient string)) *receiver {
	t.Helper()
	r := &receiver{now: time.Unix(1_800_000_000, 999_999_999)}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		var n notice
		_ = json.Unmarshal(body, &n)
		r.mu.Lock()
		r.bodies = append(r.bodies, string(body))
		if fault := r.verify(req, body); fault != "" {
			r.faults = append(r.faults, fault)
		}
		r.mu.Unlock()
		if answer != nil {
			answer(w, n.Context.Recipient)
		}
	}))
	r.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.conn.Add(1)
		}
	}
	r.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	if r.TLS = config; config != nil {
		r.StartTLS()
	} else {
		r.Start()
	}
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) transport(o Options) *Transport {
	o.Now = func() time.Time { return r.now }
	return New(o)
}

func (r *receiver) got(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fault := range r.faults {
		t.Error(fault)
	}
	return r.bodies
}

func webhookTo(url string) emailprovider.Route {
	return emailprovider.Route{
		ProviderID: "123", Description: "The hook", HTTP: &emailprovider.HTTP{Endpoint: url}, Secret: secret.New(signingKey),
	}
}

// toAll is a mail for several recipients.
func toAll(recipients ...string) emailprovider.Mail {
	m := testContent
	m.To, m.Recipients, m.Text = recipients, recipients, "Hello"
	return m
}

// TestWebhookBody has everything that a mail can have, over TLS with an authority of our own.
func TestWebhookBody(t *testing.T) {
	ca, err := smtptest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(time.Unix(1_700_000_000, 0), time.Unix(1_900_000_000, 0), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	r := startReceiver(t, &tls.Config{Certificates: []tls.Certificate{*cert}}, nil)
	m := testContent
	m.To, m.Cc, m.Recipients = []string{"a@example.org"}, []string{"b@example.org"}, []string{"b@example.org", "blind@example.org"}
	m.ReplyTo, m.Subject, m.Text, m.HTML = "r@example.com", "Grüße", "text", "<p>html</p>"
	m.Headers = []emailprovider.Header{{Name: "X-A", Value: "b"}}
	m.Attachments = []emailprovider.Attachment{{Name: "f.bin", ContentType: "a/b", Data: []byte{0, 0xff}}}
	m.Args = map[string]string{"tag": "t", "messageId": "not this"}
	tr := r.transport(Options{Roots: ca.Pool()})
	for range 2 {
		d := tr.post(t.Context(), webhookTo(r.URL+"/hook?key=1"), m)
		if d.Failed != nil || len(d.Verdicts) != 2 || d.Verdicts[0].Refused != nil || d.Verdicts[1].Refused != nil || !d.Started.Equal(r.now) ||
			len(d.Steps) != 1 || d.Steps[0].Step != emailprovider.StepPost || d.Steps[0].Took <= 0 {
			t.Errorf("%+v", d)
		}
	}
	bodies := r.got(t)
	if len(bodies) != 4 || bodies[0] != bodies[2] || bodies[1] != bodies[3] {
		t.Fatalf("%q", bodies)
	}
	var got any
	if err := json.Unmarshal([]byte(bodies[0]), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"contextInfo": map[string]any{
			"eventType": "mailkeep.message.send", "provider": map[string]any{"id": "123", "description": "The hook"}, "recipientEmailAddress": "b@example.org",
		},
		"templateData": map[string]any{
			"subject": "Grüße", "text": "text", "html": "<p>html</p>", "to": []any{"a@example.org"}, "cc": []any{"b@example.org"}, "replyTo": "r@example.com",
			"headers":     []any{map[string]any{"name": "X-A", "value": "b"}},
			"attachments": []any{map[string]any{"name": "f.bin", "contentType": "a/b", "data": base64.StdEncoding.EncodeToString([]byte{0, 0xff})}},
		},
		"args": map[string]any{"messageId": "one@example.com", "tag": "t"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(bodies[0], "blind") || m.Args["messageId"] != "not this" {
		t.Error("a blind copy is told of, or the mail was changed")
	}
	if n := r.conn.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// Without the authority nothing is sent.
	d := r.transport(Options{}).post(t.Context(), webhookTo(r.URL), m)
	if d.Failed == nil || !d.Failed.Temporary || !strings.HasPrefix(d.Failed.Text, "tls: ") || len(r.got(t)) != 4 {
		t.Errorf("%+v", d.Failed)
	}
}

// TestWebhookAnswers walks every status that there is.
func TestWebhookAnswers(t *testing.T) {
	var status atomic.Int32
	r := startReceiver(t, nil, func(w http.ResponseWriter, _ string) { w.WriteHeader(int(status.Load())) })
	tr := r.transport(Options{})
	endpoint := []int{403, 404, 405, 408, 410, 425, 429}
	posts := 0
	for code := 200; code < 600; code++ {
		status.Store(int32(code))
		d := tr.post(t.Context(), webhookTo(r.URL), toAll("a@b.c"))
		posts++
		var want emailprovider.Delivery
		e := &emailprovider.DeliveryError{Step: emailprovider.StepPost, Code: code, Text: fmt.Sprintf("the webhook answered %d", code)}
		switch {
		case code < 300:
			want.Verdicts = make([]emailprovider.Verdict, 1)
		case code == 401:
			e.Step, want.Failed = emailprovider.StepAuth, e
		case code < 400 || code >= 500 || slices.Contains(endpoint, code):
			e.Temporary, want.Failed = true, e
		default:
			want.Failed, want.Verdicts = e, []emailprovider.Verdict{{Refused: e}}
		}
		want.Started, want.Steps = d.Started, d.Steps
		if diff := cmp.Diff(want, d); diff != "" {
			t.Errorf("%d: %s", code, diff)
		}
	}
	if n := len(r.got(t)); n != posts {
		t.Errorf("%d posts for %d mails", n, posts)
	}
	if n := r.conn.Load(); n > 2 { // a 408 may close
		t.Errorf("%d connections for %d mails", n, posts)
	}
}

// TestWebhookRecipients has several recipients with an answer each.
func TestWebhookRecipients(t *testing.T) {
	type verdicts []string // step, code, temporary
	for name, c := range map[string]struct {
		answers string // by the local part of the address
		want    verdicts
		failed  string
		posts   int
	}{
		"accepted":            {"200 204", verdicts{"", ""}, "", 2},
		"one refused":         {"200 422 202", verdicts{"", "post 422 false", ""}, "", 3},
		"all refused":         {"422 400", verdicts{"post 422 false", "post 400 false"}, "post 422 false", 2},
		"down after one":      {"200 503 200 200", verdicts{"", "post 503 true", "post 503 true", "post 503 true"}, "", 2},
		"key changed":         {"200 401 200", verdicts{"", "auth 401 true", "auth 401 true"}, "", 2},
		"down":                {"503 200", nil, "post 503 true", 1},
		"key refused":         {"401 200", nil, "auth 401 false", 1},
		"a filter before":     {"403 200", nil, "post 403 true", 1},
		"down after refusal":  {"422 302 200", nil, "post 302 true", 2},
		"refused, then taken": {"422 200 500 200", verdicts{"post 422 false", "", "post 500 true", "post 500 true"}, "", 3},
	} {
		r := startReceiver(t, nil, func(w http.ResponseWriter, recipient string) {
			code, _ := strconv.Atoi(recipient[1:4])
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		})
		var recipients []string
		for i, code := range strings.Fields(c.answers) {
			recipients = append(recipients, string(rune('a'+i))+code+"@example.org")
		}
		d := r.transport(Options{}).post(t.Context(), webhookTo(r.URL), toAll(recipients...))
		var got verdicts
		for _, v := range d.Verdicts {
			got = append(got, short(v.Refused))
		}
		if diff := cmp.Diff(c.want, got); diff != "" || short(d.Failed) != c.failed {
			t.Errorf("%s: failed %q %s", name, short(d.Failed), diff)
		}
		if n := len(r.got(t)); n != c.posts {
			t.Errorf("%s: %d posts", name, n)
		}
	}
}

func short(e *emailprovider.DeliveryError) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%s %d %v", e.Step, e.Code, e.Temporary)
}

// TestWebhookText: what a webhook says is cut and cleaned.
func TestWebhookText(t *testing.T) {
	m := toAll("a@b.c")
	m.Subject, m.Text = "Reset", "Your code is 482913; it is valid for ten minutes.\n"
	for name, c := range map[string]struct{ kind, body, want string }{
		"text":         {"text/plain", "no such\r\nuser ", `: no such\r\nuser`},
		"problem":      {"application/problem+json", `{"title":"bad"}`, `: {"title":"bad"}`},
		"binary":       {"application/octet-stream", "abc", ""},
		"none":         {"text/plain", " \n", ""},
		"the key":      {"text/html; charset=utf-8", "key " + signingKey + "!", ": key [redacted]!"},
		"in base64":    {"text/plain", base64.StdEncoding.EncodeToString([]byte("x:" + signingKey)), ": [redacted]"},
		"long":         {"text/plain", strings.Repeat("ü", 9000), ": " + strings.Repeat("ü", 115)},
		"controls":     {"text/plain", "a\x1b[2Jb\x00\xff", `: a\x1b[2Jb\x00\xff`},
		"half the key": {"application/json", `{"sent":"` + signingKey[:20] + `"}`, `: {"sent":"[redacted]"}`},
		"the mail":     {"application/json", `{"input":{"subject":"Reset","text":"Your code is 482913; it is v`, `: {"input":{"subject":"[redacted]","text":"[redacted]`},
		"its address":  {"text/plain", "no such user: a@b.c", ": no such user: a@b.c"},
	} {
		r := startReceiver(t, nil, func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Type", c.kind)
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, c.body)
		})
		d := r.transport(Options{}).post(t.Context(), webhookTo(r.URL), m)
		if d.Failed == nil || d.Failed.Text != "the webhook answered 422"+c.want || len(d.Failed.Text) > maxShown {
			t.Errorf("%s: %+v", name, d.Failed)
		}
	}
}

// TestWebhookRedirects: none is followed, wherever it goes.
func TestWebhookRedirects(t *testing.T) {
	target := startReceiver(t, nil, nil)
	for _, code := range []int{301, 302, 303, 307, 308} {
		r := startReceiver(t, nil, func(w http.ResponseWriter, _ string) {
			w.Header().Set("Location", target.URL)
			w.WriteHeader(code)
		})
		if d := r.transport(Options{}).post(t.Context(), webhookTo(r.URL), toAll("a@b.c")); short(d.Failed) != fmt.Sprintf("post %d true", code) {
			t.Errorf("%d: %+v", code, d)
		}
	}
	if n := target.conn.Load(); n != 0 {
		t.Errorf("%d connections to the target of redirects", n)
	}
}

// TestWebhookKeepsConnections also with answers that nobody wants to read, and with proxies set.
func TestWebhookKeepsConnections(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	for name, body := range map[string]string{"none": "", "some": strings.Repeat("x", 30<<10)} {
		r := startReceiver(t, nil, func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, body) })
		tr := r.transport(Options{})
		for range 20 {
			if d := tr.post(t.Context(), webhookTo(r.URL), toAll("a@b.c")); d.Failed != nil {
				t.Fatalf("%s: %+v", name, d.Failed)
			}
		}
		if n := r.conn.Load(); n != 1 {
			t.Errorf("%s: %d connections", name, n)
		}
	}
}

// TestWebhookIsBounded has servers that do not end, and one that does not begin.
func TestWebhookIsBounded(t *testing.T) {
	forever := func(what string) func(net.Conn) {
		return func(conn net.Conn) {
			for {
				if _, err := io.WriteString(conn, what); err != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		first string
		then  func(net.Conn)
		want  string // in the text; empty for accepted
		limit time.Duration
	}{
		"endless body":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", forever("400\r\n" + strings.Repeat("x", 1024) + "\r\n"), "", 3 * time.Second},
		"endless refusal":     {"HTTP/1.1 422 No\r\nContent-Type: text/plain\r\n\r\n", forever("never "), "answered 422: never never", 3 * time.Second},
		"body that hangs":     {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", nil, "", 3 * time.Second},
		"endless headers":     {"HTTP/1.1 200 OK\r\n", forever("X-A: " + strings.Repeat("b", 100) + "\r\n"), "network error", time.Second},
		"endless header":      {"HTTP/1.1 200 OK\r\nX-A: ", forever(strings.Repeat("b", 1000)), "network error", time.Second},
		"endless information": {"", forever("HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n"), "network error", time.Second},
		"silence":             {"", nil, "timed out", 3 * time.Second},
		"header that hangs":   {"HTTP/1.1 200 OK\r\nX-A: b", nil, "timed out", 3 * time.Second},
		"not HTTP":            {"220 mail.example.com ESMTP\r\n", nil, "network error", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := startRaw(t, c.first, c.then)
			var o Options
			if c.want == "timed out" {
				o.WebhookTimeout = 400 * time.Millisecond
			}
			begun := time.Now()
			d := New(o).post(t.Context(), webhookTo(url), toAll("a@b.c"))
			if took := time.Since(begun); took > c.limit {
				t.Errorf("took %v", took)
			}
			switch {
			case c.want == "":
				if d.Failed != nil || len(d.Verdicts) != 1 {
					t.Errorf("%+v", d.Failed)
				}
			case d.Failed == nil || !strings.Contains(d.Failed.Text, c.want) || d.Failed.Step != emailprovider.StepPost:
				t.Errorf("%+v", d.Failed)
			case d.Failed.Temporary != (d.Failed.Code == 0):
				t.Errorf("%+v", d.Failed)
			}
		})
	}
}

// startRaw starts a server that says what it likes once it has got a request.
func startRaw(t *testing.T, first string, then func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); served.Wait() })
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer func() { _ = conn.Close() }()
				if _, err := conn.Read(make([]byte, 64<<10)); err != nil {
					return
				}
				_, _ = io.WriteString(conn, first)
				if then != nil {
					then(conn)
				}
				_, _ = io.Copy(io.Discard, conn) // until the client goes
			})
		}
	})
	return "http://" + l.Addr().String()
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

// TestWebhookNetwork: what went wrong is said without telling of our network.
func TestWebhookNetwork(t *testing.T) {
	refusal := &emailprovider.DeliveryError{Step: emailprovider.StepDial, Text: "not allowed to go there"}
	hidden := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}, Err: errors.New("via 10.1.2.3")}
	for _, c := range []struct {
		err  error
		want emailprovider.DeliveryError
	}{
		{refusal, emailprovider.DeliveryError{Step: emailprovider.StepDial, Text: refusal.Text, Temporary: true}},
		{hidden, emailprovider.DeliveryError{Step: emailprovider.StepPost, Text: "network error", Temporary: true}},
		{&net.DNSError{Err: "x", Server: "10.1.2.3", IsNotFound: true}, emailprovider.DeliveryError{Step: emailprovider.StepPost, Text: "no such host", Temporary: true}},
	} {
		tr := New(Options{Dialer: dialFunc(func(context.Context, string, string) (net.Conn, error) { return nil, c.err })})
		d := tr.post(t.Context(), webhookTo("https://hook.example.com/secret-path"), toAll("a@b.c", "d@e.f"))
		if d.Failed == nil || *d.Failed != c.want || d.Verdicts != nil {
			t.Errorf("%v: %+v", c.err, d.Failed)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d := New(Options{}).post(ctx, webhookTo(startRaw(t, "", nil)), toAll("a@b.c")); d.Failed == nil || d.Failed.Text != "canceled" || !d.Failed.Temporary {
		t.Errorf("%+v", d.Failed)
	}
	for endpoint, via := range map[string]emailprovider.Route{"scheme": webhookTo("ftp://x/"), "host": webhookTo("http:///x"), "url": webhookTo("http://[x"), "path": webhookTo("/x")} {
		if d := New(Options{}).post(t.Context(), via, toAll("a@b.c")); d.Failed == nil || !d.Failed.Temporary || !strings.HasPrefix(d.Failed.Text, "the endpoint") {
			t.Errorf("%s: %+v", endpoint, d.Failed)
		}
	}
	keyless := webhookTo("http://127.0.0.1:1/")
	keyless.Secret = secret.Text{}
	if d := New(Options{}).post(t.Context(), keyless, toAll("a@b.c")); short(d.Failed) != "auth 0 false" {
		t.Errorf("%+v", d.Failed)
	}
	if d := New(Options{}).post(t.Context(), webhookTo("http://127.0.0.1:1/"), toAll()); short(d.Failed) != "recipient 0 false" {
		t.Errorf("%+v", d.Failed)
	}
}

// TestWebhookTakesArgsAsTheyAre: two mails at once share nothing.
func TestWebhookTakesArgsAsTheyAre(t *testing.T) {
	r := startReceiver(t, nil, nil)
	tr := r.transport(Options{})
	m := toAll("a@b.c")
	m.Args = map[string]string{"k": "v"}
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			if d := tr.post(t.Context(), webhookTo(r.URL), m); d.Failed != nil {
				t.Errorf("%+v", d.Failed)
			}
		})
	}
	done.Wait()
	if n := len(r.got(t)); n != 8 || !maps.Equal(m.Args, map[string]string{"k": "v"}) {
		t.Errorf("%d posts, %v", n, m.Args)
	}
}
