package mailrpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// report is a verification that failed at AUTH.
func report() emailprovider.Report {
	return emailprovider.Report{
		Steps: []emailprovider.StepReport{
			{Name: "tcp", Passed: true, Took: time.Millisecond},
			{Name: "ehlo", Passed: true, Code: 250, Capabilities: []string{"SIZE 1"}, Mechanisms: []string{"PLAIN"}},
			{Name: "starttls", Passed: true, Code: 220, TLS: &emailprovider.TLSDetails{
				Version: "TLS 1.3", CipherSuite: "c", Chain: []emailprovider.Certificate{{Subject: "s", Issuer: "i", Expires: now}},
			}},
			{Name: "auth", Code: 535, Text: "no", Mechanism: "PLAIN"},
		},
		Failed: &emailprovider.DeliveryError{Step: emailprovider.StepAuth, Code: 535, Text: "no"},
	}
}

// encodedReport is that on the wire.
func encodedReport() *mailkeepv1.VerificationReport {
	return &mailkeepv1.VerificationReport{Steps: []*mailkeepv1.VerificationStep{
		{Step: "tcp", Passed: true, Duration: durationpb.New(time.Millisecond)},
		{Step: "ehlo", Passed: true, Duration: durationpb.New(0), Code: 250, Capabilities: []string{"SIZE 1"}, Mechanisms: []string{"PLAIN"}},
		{Step: "starttls", Passed: true, Duration: durationpb.New(0), Code: 220, Tls: &mailkeepv1.TLSDetails{
			Version: "TLS 1.3", CipherSuite: "c",
			Chain: []*mailkeepv1.CertificateDetails{{Subject: "s", Issuer: "i", ExpirationDate: timestamppb.New(now)}},
		}},
		{Step: "auth", Duration: durationpb.New(0), Code: 535, Text: "no", Mechanism: "PLAIN"},
	}}
}

func TestEncodeReport(t *testing.T) {
	if diff := cmp.Diff(encodedReport(), encodeReport(report()), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	passed := report()
	passed.Failed = nil
	if !encodeReport(passed).GetPassed() || encodeVerified(passed, emailprovider.VerifyOff) != nil || encodeVerified(passed, emailprovider.VerifyWarn) == nil {
		t.Error("a report that passed, or was not made, is not shown as that")
	}
}

// TestVerifyModes walks the enum, and has a value beyond it.
func TestVerifyModes(t *testing.T) {
	values := mailkeepv1.VerifyMode(0).Descriptor().Values()
	for i := range values.Len() {
		name := string(values.Get(i).Name())
		want := emailprovider.VerifyMode(strings.ToLower(strings.TrimPrefix(name, "VERIFY_MODE_")))
		if name == "VERIFY_MODE_UNSPECIFIED" {
			want = emailprovider.VerifyEnforce
		}
		if got, err := decodeVerifyMode(mailkeepv1.VerifyMode(values.Get(i).Number())); got != want || err != nil {
			t.Errorf("%s is decoded as %s, %v", name, got, err)
		}
	}
	numbers := map[protoreflect.EnumNumber]bool{} // some have two names
	for i := range values.Len() {
		numbers[values.Get(i).Number()] = true
	}
	if len(verifyModes) != len(numbers) {
		t.Errorf("%d modes for %d values", len(verifyModes), len(numbers))
	}
	if _, err := decodeVerifyMode(99); !isBadValue(err, "verify") {
		t.Errorf("err = %v", err)
	}
}

// one is a store that has one provider; refusing is a server that accepts no password.
type one struct{ emailprovider.Store }

func (one) Provider(context.Context, string, string) (emailprovider.Provider, error) {
	return emailprovider.Provider{ID: "p1", SMTP: &emailprovider.SMTP{Host: "h:25", User: "u"}}, nil
}

func (one) Recent(string, string) (p emailprovider.Provider, ok bool) { return p, false }

type refusing struct{ emailprovider.Mailer }

func (refusing) Verify(context.Context, emailprovider.Route, string, func(emailprovider.StepReport)) emailprovider.Report {
	return report()
}

// refused is what the domain says when the server does not accept a new password.
func refused(t *testing.T) error {
	t.Helper()
	service := emailprovider.NewService(emailprovider.Config{Store: one{}, Mailer: refusing{}})
	_, _, err := service.RotatePassword(t.Context(), emailprovider.Caller{}, "p1",
		emailprovider.Rotation{Password: secret.New("p"), Verify: emailprovider.VerifyEnforce}, nil)
	if v := (*emailprovider.VerificationError)(nil); !errors.As(err, &v) {
		t.Fatalf("err = %v", err)
	}
	return err
}

// TestRefusalDetails wants the report in the error, after the id, over every protocol.
func TestRefusalDetails(t *testing.T) {
	url := serve(t, &fakeOutbox{}, &fakeProviders{err: refused(t)}, t.Context(), io.Discard)
	for name, c := range clients(t, url) {
		client := mailkeepv1connect.NewProviderServiceClient(c)
		for call, do := range map[string]func() error{
			"RotatePassword": func() error {
				_, err := client.RotatePassword(t.Context(), &mailkeepv1.RotatePasswordRequest{Id: "p1", Password: "p"})
				return err
			},
			"RollbackPassword": func() error {
				_, err := client.RollbackPassword(t.Context(), &mailkeepv1.RollbackPasswordRequest{Id: "p1"})
				return err
			},
			"WatchRotatePassword": func() error {
				stream, err := client.WatchRotatePassword(t.Context(), &mailkeepv1.WatchRotatePasswordRequest{
					Rotation: &mailkeepv1.RotatePasswordRequest{Id: "p1", Password: "p"},
				})
				if err == nil {
					_, err = stream.Receive()
					_ = stream.Close()
				}
				return err
			},
		} {
			err := do()
			if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "(EMAIL-s9kfs)") {
				t.Errorf("%s over %s: %v", call, name, err)
			}
			details := detailsOf(t, err)
			if len(details) != 2 {
				t.Errorf("%s over %s has the details %v", call, name, details)
				continue
			}
			if id, ok := details[0].(*zitadelv1.ErrorDetail); !ok || id.GetId() != "EMAIL-s9kfs" {
				t.Errorf("%s over %s begins with %v", call, name, details[0])
			}
			if diff := cmp.Diff(encodedReport(), details[1], protocmp.Transform()); diff != "" {
				t.Errorf("%s over %s (-want +got):\n%s", call, name, diff)
			}
		}
	}
	for route, body := range map[string]string{"_rotate": `{"password":"p"}`, "_rollback": `{}`} {
		status, answer := callREST(t, url+"/v1/providers/p1/"+route, body)
		const want = `,{"@type":"type.googleapis.com/mailkeep.v1.VerificationReport","steps":[{"step":"tcp","passed":true,"duration":"0.001s"},`
		if status != 400 || !strings.Contains(answer, want) || !strings.Contains(answer, `"details":[{"@type":"type.googleapis.com/zitadel.v1.ErrorDetail"`) {
			t.Errorf("%s: %d %s", route, status, answer)
		}
	}
}

func detailsOf(t *testing.T, err error) (all []proto.Message) {
	t.Helper()
	var told *connect.Error
	if !errors.As(err, &told) {
		t.Fatalf("err = %v", err)
	}
	for _, d := range told.Details() {
		m, err := connectproto.UnmarshalErrorDetail(d)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// TestRotate takes a rotation both ways, and checks what the domain is told.
func TestRotate(t *testing.T) {
	passed := report()
	passed.Failed = nil
	p := &fakeProviders{
		provider: emailprovider.Provider{Changed: now, Credential: emailprovider.Credential{Version: 7}}, report: passed,
	}
	url := serve(t, &fakeOutbox{}, p, t.Context(), io.Discard)
	client := mailkeepv1connect.NewProviderServiceClient(clients(t, url)["grpc"])
	res, err := client.RotatePassword(t.Context(), &mailkeepv1.RotatePasswordRequest{
		Id: "p1", Password: "p", User: new(""), Verify: mailkeepv1.VerifyMode_VERIFY_MODE_OFF,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &mailkeepv1.RotatePasswordResponse{CredentialVersion: 7, ChangeDate: timestamppb.New(now)}
	if diff := cmp.Diff(want, res, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r := p.rotation; r.Password.Reveal() != "p" || r.User == nil || *r.User != "" || r.Verify != emailprovider.VerifyOff {
		t.Errorf("rotation %+v", r)
	}
	actor := p.caller.Actor
	if p.caller.Instance != "instance-1" || actor.TokenID != "token-1" || actor.Name != "owner" || actor.Protocol != "grpc" ||
		actor.Procedure != mailkeepv1connect.ProviderServiceRotatePasswordProcedure || actor.UserAgent == "" || actor.RequestID == "" {
		t.Errorf("caller %+v", p.caller)
	}

	p.progress = passed.Steps
	stream, err := client.WatchRotatePassword(t.Context(), &mailkeepv1.WatchRotatePasswordRequest{
		Rotation: &mailkeepv1.RotatePasswordRequest{Id: "p1", Password: "p"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	var steps []string
	for range passed.Steps {
		res, err := stream.Receive()
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, res.GetStep().GetStep())
	}
	if diff := cmp.Diff([]string{"tcp", "ehlo", "starttls", "auth"}, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	last, err := stream.Receive()
	if err != nil || last.GetResult().GetCredentialVersion() != 7 || !last.GetResult().GetReport().GetPassed() {
		t.Errorf("%v, %v", last, err)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if p.rotation.User != nil || p.rotation.Verify != emailprovider.VerifyEnforce {
		t.Errorf("rotation %+v", p.rotation)
	}
}

// TestRollback has the mode and the answer.
func TestRollback(t *testing.T) {
	p := &fakeProviders{provider: emailprovider.Provider{Changed: now, Credential: emailprovider.Credential{Version: 8}}, report: report()}
	url := serve(t, &fakeOutbox{}, p, t.Context(), io.Discard)
	status, body := callREST(t, url+"/v1/providers/p1/_rollback", `{"verify":"VERIFY_MODE_WARN"}`)
	if status != 200 || !strings.HasPrefix(body, `{"credentialVersion":"8","changeDate":"2031-02-03T04:05:06.000007Z","report":{"steps":[`) ||
		p.mode != emailprovider.VerifyWarn {
		t.Errorf("%d %s, mode %s", status, body, p.mode)
	}
	if status, body := callREST(t, url+"/v1/providers/p1/_rollback", `{"verify":9}`); status != 400 || !strings.Contains(body, "MAILKEEP-VALUE") {
		t.Errorf("%d %s", status, body)
	}
}

// TestVerify has stored settings and others.
func TestVerify(t *testing.T) {
	p := &fakeProviders{report: report()}
	url := serve(t, &fakeOutbox{}, p, t.Context(), io.Discard)
	const others = `{"host":"h:25","tls":true,"user":"u","password":"w","senderAddress":"s@example.com"}`
	want := &emailprovider.VerifyValues{Host: "h:25", TLS: true, User: "u", Password: secret.New("w"), SenderAddress: "s@example.com"}
	for _, c := range []struct {
		path, body string
		want       *emailprovider.VerifyValues
	}{
		{"/v1/providers/p1/_verify", `{}`, nil},
		{"/v1/providers/p1/_verify", `{"smtp":` + others + `}`, want},
		{"/v1/providers/_verify", `{"smtp":` + others + `}`, want},
	} {
		status, body := callREST(t, url+c.path, c.body)
		if status != 200 || !strings.HasPrefix(body, `{"report":{"steps":[{"step":"tcp","passed":true,`) {
			t.Errorf("%s %s: %d %s", c.path, c.body, status, body)
		}
		equal := cmp.Comparer(func(a, b secret.Text) bool { return a.Reveal() == b.Reveal() })
		if diff := cmp.Diff(c.want, p.values, equal); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.path, diff)
		}
	}
	if status, body := callREST(t, url+"/v1/providers/_verify", `{}`); status != 400 || !strings.Contains(body, "smtp is missing") {
		t.Errorf("%d %s", status, body)
	}
	stream, err := mailkeepv1connect.NewProviderServiceClient(clients(t, url)["connect"]).WatchRotatePassword(t.Context(), &mailkeepv1.WatchRotatePasswordRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("no rotation: %v", err)
	}
}

// TestStatus is the receipt of a provider in use, and of one that is new.
func TestStatus(t *testing.T) {
	uses := []outbox.Use{{Version: 20, FirstUsed: now, LastSuccess: now.Add(1000), Mails: 5, CertExpires: now.Add(2000)}}
	for v := uint64(19); v > 5; v-- {
		uses = append(uses, outbox.Use{Version: v, LastFailure: now, FailureStep: emailprovider.StepAuth, FailureCode: 535, FailureText: "no", Failures: v})
	}
	p := emailprovider.Provider{
		ID: "p1", State: emailprovider.Active, Credential: emailprovider.Credential{Version: 20, SetAt: now, SetBy: "owner"},
		Previous: emailprovider.Previous{
			Credential: emailprovider.Credential{Version: 19, Sealed: emailprovider.Sealed{Ciphertext: []byte("x")}}, Until: now.Add(1000),
		},
	}
	got := encodeStatus(p, uses, now)
	want := &mailkeepv1.ProviderStatus{
		Id: "p1", Active: true, CredentialVersion: 20, CredentialSetDate: timestamppb.New(now), CredentialSetBy: "owner",
		Current: &mailkeepv1.CredentialUse{Version: 20, FirstUsed: timestamppb.New(now), LastSuccess: timestamppb.New(now.Add(1000)), Mails: 5},
		Former:  got.GetFormer(), Breaker: mailkeepv1.BreakerState_BREAKER_STATE_CLOSED,
		CertificateExpirationDate: timestamppb.New(now.Add(2000)), RollbackUntilDate: timestamppb.New(now.Add(1000)), RollbackVersion: 19,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(got.GetFormer()); n != 10 || got.GetFormer()[0].GetVersion() != 19 || got.GetFormer()[9].GetVersion() != 10 {
		t.Errorf("%d former: %v", n, got.GetFormer())
	}
	former := &mailkeepv1.CredentialUse{
		Version: 19, LastFailure: timestamppb.New(now), LastFailureStep: "auth", LastFailureCode: 535, LastFailureText: "no", Failures: 19,
	}
	if diff := cmp.Diff(former, got.GetFormer()[0], protocmp.Transform()); diff != "" {
		t.Errorf("former (-want +got):\n%s", diff)
	}

	p.State, p.Previous.Until, uses[0].Probe = emailprovider.Inactive, now, now.Add(3000)
	got = encodeStatus(p, uses, now)
	if got.Active || got.Breaker != mailkeepv1.BreakerState_BREAKER_STATE_OPEN || !got.NextProbeDate.AsTime().Equal(now.Add(3000)) ||
		got.RollbackUntilDate != nil || got.RollbackVersion != 0 {
		t.Errorf("%v", got)
	}

	unused := encodeStatus(p, uses[1:], now) // the present version was not used yet, and the one before has an open breaker or not
	if unused.GetCurrent().GetVersion() != 20 || unused.GetCurrent().GetMails() != 0 || len(unused.GetFormer()) != 10 ||
		unused.GetBreaker() != mailkeepv1.BreakerState_BREAKER_STATE_CLOSED || unused.GetCertificateExpirationDate() != nil {
		t.Errorf("%v", unused)
	}
}

// TestGetStatus goes over the wire once.
func TestGetStatus(t *testing.T) {
	p := &fakeProviders{provider: emailprovider.Provider{ID: "p1", Credential: emailprovider.Credential{Version: 2}}}
	o := &fakeOutbox{use: []outbox.Use{{Version: 2, Mails: 3}, {Version: 1, Mails: 4}}}
	url := serve(t, o, p, t.Context(), io.Discard)
	res, err := mailkeepv1connect.NewProviderServiceClient(clients(t, url)["grpcweb"]).GetProviderStatus(t.Context(), &mailkeepv1.GetProviderStatusRequest{Id: "p1"})
	if err != nil || res.GetStatus().GetCurrent().GetMails() != 3 || res.GetStatus().GetFormer()[0].GetMails() != 4 {
		t.Errorf("%v, %v", res, err)
	}
}

// TestEvents has pages, a deprecated call, and a refusal.
func TestEvents(t *testing.T) {
	p := &fakeProviders{events: []emailprovider.Event{
		{Sequence: 3, Type: emailprovider.EventAdded, At: now, By: emailprovider.Actor{
			TokenID: "t", Name: "n", Protocol: "grpc", Procedure: "/s/AddOld", UserAgent: "a", RequestID: "r",
		}, Fields: []string{"host"}, CredentialVersion: 1, KeptCredential: true},
		{Sequence: 5, Type: emailprovider.EventPasswordChanged, At: now, By: emailprovider.Actor{Procedure: "/s/New"}},
		{Sequence: 9, Type: emailprovider.EventRemoved, At: now},
	}}
	url := serve(t, &fakeOutbox{}, p, t.Context(), io.Discard)
	client := mailkeepv1connect.NewProviderServiceClient(clients(t, url)["connect"])
	list := func(after uint64, size uint32) (*mailkeepv1.ListProviderEventsResponse, error) {
		return client.ListProviderEvents(t.Context(), &mailkeepv1.ListProviderEventsRequest{Id: "p1", AfterSequence: after, PageSize: size})
	}
	first := &mailkeepv1.ProviderEvent{
		Sequence: 3, Type: "provider.added", Date: timestamppb.New(now), Caller: "n", TokenId: "t", Protocol: "grpc", Procedure: "/s/AddOld",
		Deprecated: true, UserAgent: "a", RequestId: "r", Fields: []string{"host"}, CredentialVersion: 1, KeptCredential: true,
	}
	second := &mailkeepv1.ProviderEvent{Sequence: 5, Type: "provider.password_changed", Date: timestamppb.New(now), Procedure: "/s/New"}
	third := &mailkeepv1.ProviderEvent{Sequence: 9, Type: "provider.removed", Date: timestamppb.New(now)}
	for _, c := range []struct {
		after uint64
		size  uint32
		want  *mailkeepv1.ListProviderEventsResponse
	}{
		{0, 0, &mailkeepv1.ListProviderEventsResponse{Events: []*mailkeepv1.ProviderEvent{first, second}, NextAfterSequence: 5}},
		{0, 3, &mailkeepv1.ListProviderEventsResponse{Events: []*mailkeepv1.ProviderEvent{first, second, third}}},
		{0, 2, &mailkeepv1.ListProviderEventsResponse{Events: []*mailkeepv1.ProviderEvent{first, second}, NextAfterSequence: 5}},
		{5, 1000, &mailkeepv1.ListProviderEventsResponse{Events: []*mailkeepv1.ProviderEvent{third}}},
		{9, 0, &mailkeepv1.ListProviderEventsResponse{}},
	} {
		got, err := list(c.after, c.size)
		if diff := cmp.Diff(c.want, got, protocmp.Transform()); diff != "" || err != nil {
			t.Errorf("after %d, at most %d: %v (-want +got):\n%s", c.after, c.size, err, diff)
		}
	}
	p.err = fault.New(fault.NotFound, "QUERY-fwofw", "email provider not found")
	if _, err := list(0, 0); connect.CodeOf(err) != connect.CodeNotFound || !strings.Contains(err.Error(), "email provider not found (QUERY-fwofw)") {
		t.Errorf("err = %v", err)
	}
}
