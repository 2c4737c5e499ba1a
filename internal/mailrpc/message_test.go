package mailrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// encodes holds a table to having each value of the domain, and all of the enum but its zero, once.
func encodes[D comparable, E protoreflect.Enum](t *testing.T, table map[D]E, domain []D) {
	t.Helper()
	seen := map[protoreflect.EnumNumber]D{}
	for _, d := range domain {
		e, ok := table[d]
		if other, taken := seen[e.Number()]; !ok || taken || e.Number() == 0 {
			t.Errorf("%v becomes %v, and %v too", d, e, other)
		}
		seen[e.Number()] = d
	}
	var zero E
	if values := zero.Descriptor().Values().Len(); len(table) != len(domain) || len(seen) != values-1 {
		t.Errorf("%d entries for %d values of the domain and %d of %s", len(table), len(domain), values, zero.Descriptor().Name())
	}
}

func TestEnums(t *testing.T) {
	encodes(t, messageStates, outbox.States())
	encodes(t, recipientKinds, []outbox.RecipientKind{outbox.To, outbox.Cc, outbox.Bcc})
	encodes(t, recipientStates, []outbox.RecipientState{outbox.Pending, outbox.Accepted, outbox.Refused})
	values := mailkeepv1.MessageState(0).Descriptor().Values()
	for i := range values.Len() {
		e := mailkeepv1.MessageState(values.Get(i).Number())
		if s, ok := decodeMessageState(e); ok == (e == 0) || ok && messageStates[s] != e {
			t.Errorf("%v is decoded as %v, %t", e, s, ok)
		}
	}
}

func TestEncodeMessage(t *testing.T) {
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	m := outbox.Message{
		Instance: "i", ID: "id", State: outbox.Queued, Reason: "why", Tag: "tag", IdempotencyKey: "key",
		Recipients: []outbox.Recipient{
			{Address: "a@example.com", Kind: outbox.To, State: outbox.Pending},
			{Address: "b@example.com", Kind: outbox.Bcc, State: outbox.Refused, Code: 550, Text: "no"},
		},
		Created: at(0), Changed: at(1), Due: at(2), Expires: at(3), Attempts: 4, ProviderID: "p", CredentialVersion: math.MaxUint64,
	}
	want := &mailkeepv1.Message{
		Id: "id", State: mailkeepv1.MessageState_MESSAGE_STATE_QUEUED, Reason: "why", Tag: "tag", IdempotencyKey: "key",
		Recipients: []*mailkeepv1.Recipient{
			{Address: "a@example.com", Kind: mailkeepv1.RecipientKind_RECIPIENT_KIND_TO, State: mailkeepv1.RecipientState_RECIPIENT_STATE_PENDING},
			{Address: "b@example.com", Kind: mailkeepv1.RecipientKind_RECIPIENT_KIND_BCC, State: mailkeepv1.RecipientState_RECIPIENT_STATE_REFUSED, Code: 550, Text: "no"},
		},
		CreationDate: timestamppb.New(at(0)), ChangeDate: timestamppb.New(at(1)), NextAttemptDate: timestamppb.New(at(2)),
		ExpirationDate: timestamppb.New(at(3)), ProviderId: "p", CredentialVersion: math.MaxUint64, AttemptCount: 4,
	}
	if diff := cmp.Diff(want, encodeMessage(m), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, state := range outbox.States() {
		m.State = state
		if got := encodeMessage(m); (got.NextAttemptDate != nil) != (state == outbox.Queued) || got.State != messageStates[state] {
			t.Errorf("%s becomes %v", state, got)
		}
	}
	if got := encodeMessage(outbox.Message{}); got.CreationDate != nil || got.ChangeDate != nil || got.ExpirationDate != nil {
		t.Errorf("no time becomes %v", got)
	}
}

func TestEncodeAttempt(t *testing.T) {
	got := encodeAttempt(outbox.Attempt{
		Number: 2, ProviderID: "p", CredentialVersion: 3, Started: now, Step: emailprovider.StepAuth, Code: 535, Text: "no",
		Steps: []emailprovider.StepTime{{Step: emailprovider.StepDial, Took: 1500 * time.Microsecond}},
	})
	want := &mailkeepv1.Attempt{
		Number: 2, ProviderId: "p", CredentialVersion: 3, StartDate: timestamppb.New(now), Step: "auth", Code: 535, Text: "no",
		Steps: []*mailkeepv1.StepTime{{Step: "dial", Duration: durationpb.New(1500 * time.Microsecond)}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := encodeAttempt(outbox.Attempt{Accepted: true}); !got.Accepted || got.StartDate != nil {
		t.Errorf("%v", got)
	}
}

func TestEncodeCount(t *testing.T) {
	for n, want := range map[int]uint32{-1: 0, 0: 0, 550: 550, math.MaxUint32: math.MaxUint32, math.MaxUint32 + 1: math.MaxUint32} {
		if got := encodeCount(n); got != want {
			t.Errorf("%d becomes %d, want %d", n, got, want)
		}
	}
}

// TestContent takes what a mail says through both codecs.
func TestContent(t *testing.T) {
	req := &mailkeepv1.SendMessageRequest{
		To: []string{"a@example.com"}, Cc: []string{"b@example.com"}, Bcc: []string{"c@example.com"}, ReplyTo: "r@example.com",
		Subject: "s", Text: "t", Html: "h", IdempotencyKey: "k", Tag: "g", ExpiresIn: durationpb.New(time.Hour),
		Headers:     []*mailkeepv1.Header{{Name: "X-A", Value: "v"}},
		Attachments: []*mailkeepv1.Attachment{{Name: "f", ContentType: "text/plain", Data: []byte("d")}},
	}
	d, err := decodeDraft("caller", req)
	if err != nil {
		t.Fatal(err)
	}
	want := outbox.Draft{
		Caller: "caller",
		To:     []string{"a@example.com"}, Cc: []string{"b@example.com"}, Bcc: []string{"c@example.com"}, ReplyTo: "r@example.com",
		Subject: "s", Text: "t", HTML: "h", IdempotencyKey: "k", Tag: "g", ExpiresIn: time.Hour,
		Headers:     []emailprovider.Header{{Name: "X-A", Value: "v"}},
		Attachments: []emailprovider.Attachment{{Name: "f", ContentType: "text/plain", Data: []byte("d")}},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("draft (-want +got):\n%s", diff)
	}
	got := encodeContent(outbox.Content{
		MessageID: "m", ReplyTo: d.ReplyTo, Subject: d.Subject, Text: d.Text, HTML: d.HTML, Headers: d.Headers, Attachments: d.Attachments,
	})
	back := &mailkeepv1.MessageContent{
		MessageId: "m", ReplyTo: req.ReplyTo, Subject: req.Subject, Text: req.Text, Html: req.Html, Headers: req.Headers, Attachments: req.Attachments,
	}
	if diff := cmp.Diff(back, got, protocmp.Transform()); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
}

func TestExpiresIn(t *testing.T) {
	for _, c := range []struct {
		in   *durationpb.Duration
		want time.Duration
		ok   bool
	}{
		{nil, 0, true},
		{durationpb.New(time.Nanosecond), time.Nanosecond, true}, // the outbox says what is too short
		{durationpb.New(-time.Second), -time.Second, true},
		{durationpb.New(0), 0, false},
		{&durationpb.Duration{Seconds: math.MaxInt64}, 0, false},
		{&durationpb.Duration{Seconds: 1, Nanos: -1}, 0, false},
	} {
		d, err := decodeDraft("caller", &mailkeepv1.SendMessageRequest{ExpiresIn: c.in})
		if (err == nil) != c.ok || c.ok && d.ExpiresIn != c.want || !c.ok && !isBadValue(err, "expires_in") {
			t.Errorf("%v is decoded as %s, %v", c.in, d.ExpiresIn, err)
		}
	}
}

func isBadValue(err error, field string) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Kind == fault.InvalidArgument && f.ID == "MAILKEEP-VALUE" && strings.Contains(f.Text, field)
}

func TestDecodeFilter(t *testing.T) {
	got, err := decodeFilter(&mailkeepv1.ListMessagesRequest{
		States: []mailkeepv1.MessageState{mailkeepv1.MessageState_MESSAGE_STATE_FAILED, mailkeepv1.MessageState_MESSAGE_STATE_EXPIRED},
		Tag:    "t", Recipient: "r", ProviderId: "p", CreatedFrom: timestamppb.New(now), CreatedBefore: timestamppb.New(now.Add(1)),
		PageSize: 1000, PageToken: "id",
	})
	want := outbox.Filter{
		States: []outbox.State{outbox.Failed, outbox.Expired}, Tag: "t", Recipient: "r", ProviderID: "p",
		From: now, Before: now.Add(1), After: "id", Limit: 1000,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	got, err = decodeFilter(&mailkeepv1.ListMessagesRequest{})
	if diff := cmp.Diff(outbox.Filter{}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for field, req := range map[string]*mailkeepv1.ListMessagesRequest{
		"states":         {States: []mailkeepv1.MessageState{mailkeepv1.MessageState_MESSAGE_STATE_UNSPECIFIED}},
		"states contain": {States: []mailkeepv1.MessageState{99}},
		"created_from":   {CreatedFrom: &timestamppb.Timestamp{Seconds: math.MaxInt64}},
		"created_before": {CreatedBefore: &timestamppb.Timestamp{Nanos: -1}},
	} {
		if _, err := decodeFilter(req); !isBadValue(err, field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestListMessages goes over the wire once, REST included.
func TestListMessages(t *testing.T) {
	o := &fakeOutbox{page: []outbox.Message{{ID: "1", State: outbox.Delivered}, {ID: "2", State: outbox.Sending}}}
	url := serve(t, o, nil, t.Context(), io.Discard)
	status, body := callREST(t, url+"/v1/messages/_search", `{"states":["MESSAGE_STATE_DELIVERED",2],"pageToken":"0"}`)
	want := `{"messages":[{"id":"1","state":"MESSAGE_STATE_DELIVERED"},{"id":"2","state":"MESSAGE_STATE_SENDING"}],"nextPageToken":"next"}`
	if status != 200 || body != want {
		t.Errorf("%d %s", status, body)
	}
	if diff := cmp.Diff(outbox.Filter{States: []outbox.State{outbox.Delivered, outbox.Sending}, After: "0"}, o.filter); diff != "" {
		t.Errorf("filter (-want +got):\n%s", diff)
	}
}

// TestOneMessage has the calls that are about one mail, and what they say when there is none.
func TestOneMessage(t *testing.T) {
	o := &fakeOutbox{}
	url := serve(t, o, nil, t.Context(), io.Discard)
	for _, c := range []struct{ route, body, want string }{
		{"id-7", "", `{"message":{"id":"id-7","attempts":[{"number":1},{"number":2}]}}`},
		{"id-7/content", "", `{"content":{"text":"t","messageId":"id-7"}}`},
		{"id-7/_retry", "{}", `{"message":{"id":"id-7","state":"MESSAGE_STATE_QUEUED"}}`},
		{"id-7/_cancel", "{}", `{"message":{"id":"id-7","state":"MESSAGE_STATE_CANCELLED"}}`},
	} {
		o.err = nil
		if status, body := callREST(t, url+"/v1/messages/"+c.route, c.body); status != 200 || body != c.want {
			t.Errorf("%s: %d %s", c.route, status, body)
		}
		o.err = fault.New(fault.NotFound, "MAILKEEP-MESSAGE", "message not found")
		if status, body := callREST(t, url+"/v1/messages/"+c.route, c.body); status != 404 || !strings.Contains(body, "MAILKEEP-MESSAGE") {
			t.Errorf("%s: %d %s", c.route, status, body)
		}
	}
}

// TestWatchMessages sees changes over every protocol, and then the end of the service.
func TestWatchMessages(t *testing.T) {
	for _, name := range []string{"connect", "grpc", "grpcweb"} {
		t.Run(name, func(t *testing.T) {
			o := &fakeOutbox{watch: func(ctx context.Context, send func(outbox.Message) error) error {
				if err := send(outbox.Message{ID: "1", State: outbox.Sending}); err != nil {
					return err
				}
				<-ctx.Done()
				return ctx.Err()
			}}
			draining, drain := context.WithCancel(t.Context())
			var log strings.Builder
			url := serve(t, o, nil, draining, &log)
			stream, err := mailkeepv1connect.NewMessageServiceClient(clients(t, url)[name]).WatchMessages(t.Context(), &mailkeepv1.WatchMessagesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stream.Close() }()
			res, err := stream.Receive()
			if err != nil || res.GetMessage().GetState() != mailkeepv1.MessageState_MESSAGE_STATE_SENDING {
				t.Errorf("%v, %v", res, err)
			}
			drain()
			_, err = stream.Receive()
			if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "the service is going down") {
				t.Errorf("the stream ends with %v", err)
			}
			if log.Len() > 0 {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

// TestWatchEnds has the other ways for a watch to end.
func TestWatchEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  error
		code connect.Code // 0 for a good end
	}{
		"settled": {nil, 0},
		"slow":    {fault.New(fault.Aborted, "MAILKEEP-SLOW", "slow"), connect.CodeAborted},
		"unknown": {fault.New(fault.NotFound, "MAILKEEP-MESSAGE", "none"), connect.CodeNotFound},
		"broken":  {errors.New("broken"), connect.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			o := &fakeOutbox{watch: func(context.Context, func(outbox.Message) error) error { return c.end }}
			url := serve(t, o, nil, t.Context(), io.Discard)
			stream, err := mailkeepv1connect.NewMessageServiceClient(clients(t, url)["connect"]).WatchMessages(t.Context(), &mailkeepv1.WatchMessagesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stream.Close() }()
			_, err = stream.Receive()
			if c.code == 0 && !errors.Is(err, io.EOF) || c.code != 0 && connect.CodeOf(err) != c.code {
				t.Errorf("the stream ends with %v", err)
			}
		})
	}
}

// TestWatchHeaders wants a client to know that it watches before anything has changed.
func TestWatchHeaders(t *testing.T) {
	o := &fakeOutbox{watch: func(ctx context.Context, _ func(outbox.Message) error) error { <-ctx.Done(); return ctx.Err() }}
	draining, drain := context.WithCancel(t.Context())
	url := serve(t, o, nil, draining, io.Discard)
	res := open(t, url+"/mailkeep.v1.MessageService/WatchMessages", "application/connect+json", "\x00\x00\x00\x00\x02{}")
	defer func() { _ = res.Body.Close() }()
	if got := res.Header.Get("Content-Type"); res.StatusCode != 200 || got != "application/connect+json" {
		t.Errorf("%s %s", res.Status, got)
	}
	drain()
	if body, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(body), "going down") {
		t.Errorf("%q, %v", body, err)
	}
}

// TestMessageErrors wants what the outbox says to reach the caller.
func TestMessageErrors(t *testing.T) {
	o := &fakeOutbox{err: fault.New(fault.FailedPrecondition, "MAILKEEP-NOACTIVE", "none is active")}
	url := serve(t, o, nil, t.Context(), io.Discard)
	status, body := callREST(t, url+"/v1/messages", `{"to":["r@example.com"],"text":"t"}`)
	want := `{"code":9,"message":"none is active (MAILKEEP-NOACTIVE)","details":[{"@type":"type.googleapis.com/zitadel.v1.ErrorDetail","id":"MAILKEEP-NOACTIVE","message":"none is active"}]}`
	if status != 400 || body != want {
		t.Errorf("%d %s", status, body)
	}
	o.err = nil
	status, body = callREST(t, url+"/v1/messages", `{"to":["r@example.com"],"text":"t"}`)
	if status != 200 || body != `{"id":"id-1"}` || len(o.drafts) != 2 {
		t.Errorf("%d %s", status, body)
	}
	for i, body := range []string{`{"expiresIn":"0s"}`, `{"expiresIn":"soon"}`, fmt.Sprintf(`{"tag":%q}`, strings.Repeat("x", 101))} {
		if status, answer := callREST(t, url+"/v1/messages", body); status != 400 {
			t.Errorf("%d: %d %s", i, status, answer)
		}
	}
}
