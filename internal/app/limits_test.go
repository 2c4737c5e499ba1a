package app_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/limit"
)

// refusal is what a caller over a bound is told, in whatever protocol.
type refusal struct {
	code       string // such as "429" or "grpc 8"
	retryAfter string
	delay      time.Duration // of google.rpc.RetryInfo
	message    string
}

// asks are one call in every protocol.
var asks = map[string]raw{
	"REST":    {verb: "POST", path: "/admin/v1/email/_search", body: "{}"},
	"Connect": {verb: "POST", path: "/zitadel.admin.v1.AdminService/ListEmailProviders", header: contentType("application/json"), body: "{}"},
	"gRPC":    {verb: "POST", path: "/zitadel.admin.v1.AdminService/ListEmailProviders", header: contentType("application/grpc"), body: frame(nil)},
	"gRPC-Web": {
		verb: "POST", path: "/zitadel.admin.v1.AdminService/ListEmailProviders", header: contentType("application/grpc-web"), body: frame(nil),
	},
}

func (s *service) refused(t *testing.T, q raw) refusal {
	t.Helper()
	version := http1
	if q.header["Content-Type"] == "application/grpc" {
		version = http2
	}
	r := s.send(t, s.client(version), q)
	told := refusal{code: fmt.Sprint(r.status), retryAfter: r.header.Get("Retry-After")}
	if !strings.HasPrefix(q.header["Content-Type"], "application/grpc") {
		told.message, told.delay = jsonRefusal(t, r.body)
		return told
	}
	trailer := http.Header{}
	for _, from := range []http.Header{r.header, r.trailer} {
		for name := range from {
			trailer.Set(name, from.Get(name))
		}
	}
	if _, text := unframe(t, r.body); text != "" {
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			trailer.Set(name, strings.TrimSpace(value))
		}
	}
	told.code = "grpc " + trailer.Get("Grpc-Status")
	var status statuspb.Status
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(trailer.Get("Grpc-Status-Details-Bin"), "="))
	if err != nil || proto.Unmarshal(data, &status) != nil {
		t.Fatalf("the details of %v are none", trailer)
	}
	told.message = status.GetMessage()
	for _, d := range status.GetDetails() {
		var info errdetails.RetryInfo
		if d.UnmarshalTo(&info) == nil {
			told.delay = info.GetRetryDelay().AsDuration()
		}
	}
	return told
}

// jsonRefusal reads a google.rpc.Status, or Connect's error, in JSON.
func jsonRefusal(t *testing.T, body string) (message string, delay time.Duration) {
	t.Helper()
	var e struct {
		Message string
		Details []struct {
			Any        string `json:"@type"`
			RetryDelay json.RawMessage
			Type       string
			Value      string
		}
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for _, d := range e.Details {
		var info errdetails.RetryInfo
		switch {
		case strings.HasSuffix(d.Any, "/google.rpc.RetryInfo"):
			if err := protojson.Unmarshal([]byte(`{"retryDelay":`+string(d.RetryDelay)+`}`), &info); err != nil {
				t.Fatal(err)
			}
			delay = info.GetRetryDelay().AsDuration()
		case d.Type == "google.rpc.RetryInfo":
			data, err := base64.RawStdEncoding.DecodeString(d.Value)
			if err != nil || proto.Unmarshal(data, &info) != nil {
				t.Fatalf("detail %q", d.Value)
			}
			delay = info.GetRetryDelay().AsDuration()
		}
	}
	return e.Message, delay
}

// wantRefused holds every protocol to the same refusal.
func (s *service) wantRefused(t *testing.T, asks map[string]raw, status, grpc int, message string) {
	t.Helper()
	for protocol, q := range asks {
		want := fmt.Sprint(status)
		if strings.HasPrefix(protocol, "gRPC") {
			want = fmt.Sprint("grpc ", grpc)
		}
		got := s.refused(t, q)
		if got.code != want || !strings.Contains(got.message, message) {
			t.Errorf("%s: %s %q, want %s %q", protocol, got.code, got.message, want, message)
		}
		if got.retryAfter == "" || got.delay <= 0 {
			t.Errorf("%s: Retry-After %q, RetryInfo %s", protocol, got.retryAfter, got.delay)
		}
	}
}

// TestOverItsRate: an instance that makes too many calls is told so, and not before it does. Health is not
// bounded, and nothing is logged as a failure.
func TestOverItsRate(t *testing.T) {
	c := config(t)
	c.Limits.CallsPerSecond = 1
	now := time.Now()
	c.Now = func() time.Time { return now } // so that no second passes
	s := start(t, c)
	for range 2 {
		if r := s.send(t, s.client(http1), asks["REST"]); r.status != http.StatusOK {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	s.wantRefused(t, asks, http.StatusTooManyRequests, 8, "more than the 1 calls per second")
	for _, path := range []string{"/livez", "/readyz"} {
		if r := s.send(t, s.client(http1), raw{verb: "GET", path: path}); r.status != http.StatusOK {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	if strings.Contains(s.log.String(), "call failed") {
		t.Error("a refused call is logged as a failure")
	}
}

// TestWrongTokens: an address with too many is not heard any more, but for tokens that were right before.
func TestWrongTokens(t *testing.T) {
	c := config(t)
	c.MaxFailures = 1
	now := time.Now()
	c.Now = func() time.Time { return now }
	s := start(t, c)
	if r := s.send(t, s.client(http1), asks["REST"]); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	wrong := map[string]raw{}
	for protocol, q := range asks {
		header := map[string]string{"Authorization": "Bearer wrong"}
		for name, value := range q.header {
			header[name] = value
		}
		wrong[protocol] = raw{q.verb, q.path, header, q.body}
	}
	for range 2 {
		if r := s.send(t, s.client(http1), wrong["REST"]); r.status != http.StatusUnauthorized {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	s.wantRefused(t, wrong, http.StatusTooManyRequests, 8, "without a valid token come from your address")
	if r := s.send(t, s.client(http1), asks["REST"]); r.status != http.StatusOK {
		t.Errorf("a token that was right before: %d %s", r.status, r.body)
	}
}

// TestQuotas: one too many of what an instance may have is refused, and changes nothing.
func TestQuotas(t *testing.T) {
	c := config(t)
	c.Limits = limit.Limits{Providers: 1, Tokens: 2, OpenMails: 1}
	s := start(t, c)
	server := inbox(t, "p1")
	id := s.addProvider(t, server.Addr(), "p1")
	s.wantRefused(t, map[string]raw{"REST": {"POST", "/admin/v1/email/smtp", nil, `{"senderAddress":"s@example.com","senderName":"S","host":"h:25"}`}},
		http.StatusTooManyRequests, 8, "the 1 providers")
	s.wantRefused(t, map[string]raw{"REST": {"POST", "/admin/v1/email/http", nil, `{"endpoint":"https://example.com/"}`}},
		http.StatusTooManyRequests, 8, "the 1 providers")
	token := raw{"POST", "/v1/tokens", nil, `{"name":"n","roles":["MESSAGE_SENDER"]}`}
	if r := s.send(t, s.client(http1), token); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	s.wantRefused(t, map[string]raw{"REST": token}, http.StatusTooManyRequests, 8, "the 2 tokens")

	addr, _ := silentServer(t) // mails stay on their way
	if r := s.send(t, s.client(http1), raw{"PUT", "/admin/v1/email/smtp/" + id, nil,
		`{"senderAddress":"s@example.com","senderName":"S","host":"` + addr + `","none":{}}`}); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if r := s.send(t, s.client(http1), raw{"POST", "/admin/v1/email/" + id + "/_activate", nil, "{}"}); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	mail := raw{"POST", "/v1/messages", nil, `{"to":["r@example.com"],"text":"x","idempotencyKey":"k"}`}
	first := s.send(t, s.client(http1), mail)
	if first.status != http.StatusOK {
		t.Fatalf("%d %s", first.status, first.body)
	}
	another := mail
	another.body = strings.Replace(mail.body, `"k"`, `"l"`, 1)
	s.wantRefused(t, map[string]raw{"REST": another}, http.StatusTooManyRequests, 8, "the 1 mails on their way")
	if again := s.send(t, s.client(http1), mail); again.body != first.body {
		t.Errorf("repeated: %d %s, want %s", again.status, again.body, first.body)
	}
}

// TestStreams: one stream too many is refused in every protocol that has them, and its place is free again when it
// has ended. Other calls are not concerned.
func TestStreams(t *testing.T) {
	c := config(t)
	c.Limits.Streams = 1
	s := start(t, c)
	clients := s.streaming()
	ctx, cancel := context.WithCancel(authorized(t.Context()))
	defer cancel()
	watchAs(ctx, t, clients["grpc/h2"], &mailkeepv1.WatchMessagesRequest{Tag: "x"})
	attempt := func(name string) error {
		ctx, cancel := context.WithCancel(authorized(t.Context()))
		defer cancel()
		stream, err := mailkeepv1connect.NewMessageServiceClient(clients[name]).WatchMessages(ctx, &mailkeepv1.WatchMessagesRequest{Id: "none"})
		if err != nil {
			return err
		}
		_, err = stream.Receive()
		return err
	}
	for name := range clients {
		if err := attempt(name); connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "the 1 streams") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r := s.send(t, s.client(http1), asks["REST"]); r.status != http.StatusOK {
		t.Errorf("another call: %d %s", r.status, r.body)
	}
	cancel()
	for connect.CodeOf(attempt("connect/h1")) == connect.CodeResourceExhausted { // until the first has ended
	}
}

// crowded is a store that takes ever longer the more ask at once, as machines do that are asked too much.
type crowded struct {
	app.Store
	mu   sync.Mutex
	busy int
}

const (
	comfortable = 24                    // that ask at once and are answered in
	lookup      = 50 * time.Millisecond // which gets longer with the square of how many more there are
)

// List implements emailprovider.Store.
func (c *crowded) List(ctx context.Context, instance string, q emailprovider.Query) (emailprovider.Page, error) {
	c.mu.Lock()
	c.busy++
	crowd := max(1, float64(c.busy)/comfortable)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.busy--
		c.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return emailprovider.Page{}, ctx.Err()
	case <-time.After(time.Duration(crowd * crowd * float64(lookup))):
	}
	return c.Store.List(ctx, instance, q)
}

// warmUp is how long clients call before it counts.
const warmUp = 500 * time.Millisecond

// offer has clients call for a time, each one call after the other, and returns how many were answered in each
// second. One that is refused waits for as long as it is told to, but not beyond that time.
func (s *service) offer(t *testing.T, clients int, length time.Duration) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), warmUp+length)
	defer cancel()
	began := time.Now()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	var mu sync.Mutex
	var group sync.WaitGroup
	answered := 0
	for range clients {
		group.Go(func() {
			for ctx.Err() == nil {
				status := s.ask(ctx, c)
				if status == http.StatusOK {
					mu.Lock()
					if time.Since(began) >= warmUp {
						answered++
					}
					mu.Unlock()
					continue
				}
				select {
				case <-ctx.Done():
				case <-time.After(laterAfter):
				}
			}
		})
	}
	group.Wait()
	return float64(answered) / length.Seconds()
}

// laterAfter is what Retry-After says.
const laterAfter = time.Second

// ask makes one call and returns its status, 0 if there is no answer.
func (s *service) ask(ctx context.Context, c *http.Client) int {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+asks["REST"].path, strings.NewReader("{}"))
	if err != nil {
		return 0
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := c.Do(r)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// overload returns the answers in a second at the peak, and at ten times the clients, and how long after that
// it takes until a call is answered as before.
func (s *service) overload(t *testing.T, length time.Duration) (peak, over float64, recovery time.Duration) {
	t.Helper()
	peak = s.offer(t, comfortable, length)
	over = s.offer(t, 10*comfortable, length)
	ended := time.Now()
	for time.Since(ended) < 10*time.Second {
		began := time.Now()
		if s.ask(t.Context(), http.DefaultClient) == http.StatusOK && time.Since(began) < 4*lookup {
			break
		}
	}
	return peak, over, time.Since(ended)
}

// TestOverload: ten times the load that the service can bear takes little of what it does. Red control: without
// a bound of calls in flight it does hardly anything.
func TestOverload(t *testing.T) {
	length := time.Duration(atLength(2, 20)) * time.Second
	serve := func(inFlight int) *service {
		c := config(t)
		c.MaxInFlight = inFlight
		c.WrapStore = func(s app.Store) app.Store { return &crowded{Store: s} }
		return start(t, c)
	}
	peak, over, recovery := serve(comfortable*5/4).overload(t, length)
	_, red, _ := serve(0).overload(t, length)
	least := 0.7 // the machine may be busy with other things
	if length > 10*time.Second {
		least = 0.9
	}
	if over < least*peak {
		t.Errorf("%.0f calls per second at ten times the load, %.0f at the peak", over, peak)
	}
	if recovery > 5*time.Second {
		t.Errorf("recovered after %s", recovery)
	}
	if red >= least*peak {
		t.Errorf("without the bound it is %.0f of %.0f too", red, peak)
	}
	t.Logf("REL overload offered=10x goodput=%.2f peak_per_s=%.0f recovery_ms=%d red_control=%.2f",
		over/peak, peak, recovery.Milliseconds(), red/peak)
}

// TestBusy: when too many calls are under way, others are told so in every protocol, and health answers.
func TestBusy(t *testing.T) {
	c := config(t)
	c.MaxInFlight = 8
	gate := make(chan struct{})
	c.WrapStore = func(s app.Store) app.Store { return &stuck{s, gate} }
	s := start(t, c)
	var group sync.WaitGroup
	defer group.Wait()
	defer close(gate)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for range c.MaxInFlight {
		group.Go(func() {
			r, err := http.NewRequest(http.MethodGet, s.URL()+"/admin/v1/email", nil)
			if err != nil {
				return
			}
			r.Header.Set("Authorization", "Bearer "+adminToken)
			if res, err := (&http.Client{Transport: transport}).Do(r); err == nil {
				_ = res.Body.Close()
			}
		})
	}
	for s.refused(t, raw{verb: "GET", path: "/admin/v1/email/none"}).code != "503" { // until all are under way
	}
	few := map[string]raw{"REST": asks["REST"], "gRPC": asks["gRPC"]} // each waits for a second
	s.wantRefused(t, few, http.StatusServiceUnavailable, 14, "--max-calls-in-flight")
	for _, path := range []string{"/livez", "/readyz"} {
		if r := s.send(t, s.client(http1), raw{verb: "GET", path: path}); r.status != http.StatusOK {
			t.Errorf("%s: %d", path, r.status)
		}
	}
}

// stuck is a store that does not tell which provider is active before the gate is open.
type stuck struct {
	app.Store
	gate chan struct{}
}

// Active implements emailprovider.Store.
func (s *stuck) Active(ctx context.Context, instance string) (emailprovider.Provider, error) {
	<-s.gate
	return s.Store.Active(ctx, instance)
}
