package mailrpc

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/httpserver"
	"github.com/mailkeep/mailkeep/internal/method"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// now is the present of the tests.
var now = time.Date(2031, 2, 3, 4, 5, 6, 7000, time.UTC)

// fakeOutbox answers with what it has, and remembers what it was asked.
type fakeOutbox struct {
	Outbox
	err    error
	drafts []outbox.Draft
	filter outbox.Filter
	page   []outbox.Message
	use    []outbox.Use
	watch  func(ctx context.Context, send func(outbox.Message) error) error
}

func (f *fakeOutbox) Send(_ context.Context, _ string, d outbox.Draft) (string, error) {
	f.drafts = append(f.drafts, d)
	return "id-1", f.err
}

func (f *fakeOutbox) List(_ context.Context, _ string, filter outbox.Filter) ([]outbox.Message, string, error) {
	f.filter = filter
	return f.page, "next", f.err
}

func (f *fakeOutbox) Get(_ context.Context, _, id string) (outbox.Message, []outbox.Attempt, error) {
	return outbox.Message{ID: id}, []outbox.Attempt{{Number: 1}, {Number: 2}}, f.err
}

func (f *fakeOutbox) Content(_ context.Context, _, id string) (outbox.Content, error) {
	return outbox.Content{MessageID: id, Text: "t"}, f.err
}

func (f *fakeOutbox) Retry(_ context.Context, _, id string) (outbox.Message, error) {
	return outbox.Message{ID: id, State: outbox.Queued}, f.err
}

func (f *fakeOutbox) Cancel(_ context.Context, _, id string) (outbox.Message, error) {
	return outbox.Message{ID: id, State: outbox.Cancelled}, f.err
}

func (f *fakeOutbox) Watch(ctx context.Context, _, _, _ string, begun func() error, send func(outbox.Message) error) error {
	if err := begun(); err != nil {
		return err
	}
	return f.watch(ctx, send)
}

func (f *fakeOutbox) Uses(_ context.Context, _, _ string, limit int) ([]outbox.Use, error) {
	return f.use[:min(limit, len(f.use))], f.err
}

// fakeProviders answers with what it has, and remembers what it was asked.
type fakeProviders struct {
	EmailProviders
	err      error
	provider emailprovider.Provider
	report   emailprovider.Report
	events   []emailprovider.Event
	caller   emailprovider.Caller
	rotation emailprovider.Rotation
	mode     emailprovider.VerifyMode
	values   *emailprovider.VerifyValues
	progress []emailprovider.StepReport
}

func (f *fakeProviders) Get(context.Context, string, string) (emailprovider.Provider, error) {
	return f.provider, f.err
}

// Events has pages of at most two if the caller does not say.
func (f *fakeProviders) Events(_ context.Context, _, _ string, after uint64, limit int) (page []emailprovider.Event, next uint64, err error) {
	limit = cmp.Or(limit, 2)
	for _, e := range f.events {
		switch {
		case e.Sequence <= after:
		case len(page) == limit:
			return page, page[limit-1].Sequence, f.err
		default:
			page = append(page, e)
		}
	}
	return page, 0, f.err
}

func (f *fakeProviders) VerifyStored(_ context.Context, c emailprovider.Caller, _ string, in *emailprovider.VerifyValues, _ string) (emailprovider.Report, error) {
	f.caller, f.values = c, in
	return f.report, f.err
}

func (f *fakeProviders) VerifyNew(_ context.Context, c emailprovider.Caller, in emailprovider.VerifyValues, _ string) (emailprovider.Report, error) {
	f.caller, f.values = c, &in
	return f.report, f.err
}

func (f *fakeProviders) RotatePassword(_ context.Context, c emailprovider.Caller, _ string, in emailprovider.Rotation, progress func(emailprovider.StepReport)) (emailprovider.Provider, emailprovider.Report, error) {
	f.caller, f.rotation = c, in
	for _, s := range f.progress {
		progress(s)
	}
	return f.provider, f.report, f.err
}

func (f *fakeProviders) RollbackPassword(_ context.Context, c emailprovider.Caller, _ string, mode emailprovider.VerifyMode, _ func(emailprovider.StepReport)) (emailprovider.Provider, emailprovider.Report, error) {
	f.caller, f.mode = c, mode
	return f.provider, f.report, f.err
}

// owner is the caller of every call.
type owner struct{}

func (owner) Authenticate(_ context.Context, instance string, _ []string) (auth.Caller, error) {
	return auth.Caller{Instance: instance, TokenID: "token-1", Name: "owner", Roles: []string{"IAM_OWNER"}}, nil
}

func (owner) ByHost(context.Context, string) (string, error) { return "instance-1", nil }

func (owner) While(ctx context.Context, _ string) (context.Context, func()) { return ctx, func() {} }

// serve serves both services behind the whole chain and returns the URL; log gets what it logs.
func serve(t *testing.T, o *fakeOutbox, p *fakeProviders, draining context.Context, log io.Writer) string {
	t.Helper()
	methods, err := method.Read(mailkeepv1.File_mailkeep_v1_message_proto.Services().Get(0),
		mailkeepv1.File_mailkeep_v1_provider_proto.Services().Get(0))
	if err != nil {
		t.Fatal(err)
	}
	server := connect.NewServer(rpc.Interceptors(rpc.Config{
		Methods: methods, Instances: owner{}, Tokens: owner{}, Log: slog.New(slog.NewTextHandler(log, nil)),
	})...)
	deprecated := func(procedure string) bool { return strings.HasSuffix(procedure, "Old") }
	mailkeepv1connect.RegisterMessageServiceHandler(server, NewMessages(o, draining))
	mailkeepv1connect.RegisterProviderServiceHandler(server, NewProviders(p, o, deprecated, func() time.Time { return now }))
	s := httptest.NewUnstartedServer(httpserver.NewHandler(server, httpserver.Options{Methods: methods}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// clients are clients of every protocol but REST, by its name.
func clients(t *testing.T, url string) map[string]*connect.Client {
	all := map[string]*connect.Client{}
	for name, options := range map[string][]connecthttp.Option{
		"connect": {connecthttp.WithProtoJSON()}, "grpcweb": {connecthttp.WithGRPCWeb()}, "grpc": {connecthttp.WithGRPC()},
	} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(name != "grpc")
		protocols.SetUnencryptedHTTP2(name == "grpc")
		transport := &http.Transport{Protocols: protocols}
		t.Cleanup(transport.CloseIdleConnections)
		all[name] = connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport, Timeout: 20 * time.Second}, url, options...))
	}
	return all
}

// open sends a request, GET without a body, and returns the answer with its body still to be read.
func open(t *testing.T, url, contentType, body string) *http.Response {
	t.Helper()
	verb := http.MethodPost
	if body == "" {
		verb = http.MethodGet
	}
	r, err := http.NewRequestWithContext(t.Context(), verb, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// callREST calls a REST route.
func callREST(t *testing.T, url, body string) (status int, answer string) {
	t.Helper()
	res := open(t, url, "application/json", body)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}
