package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

// streaming are the clients of protocols that have streams.
func (s *service) streaming() map[string]*connect.Client {
	all := map[string]*connect.Client{}
	for _, v := range []httpVersion{http1, http2} {
		for name, options := range map[string][]connecthttp.Option{
			"connect": nil, "connect+json": {connecthttp.WithProtoJSON()}, "grpcweb": {connecthttp.WithGRPCWeb()}, "grpc": {connecthttp.WithGRPC()},
		} {
			if name != "grpc" || v == http2 {
				client := s.client(v)
				client.Timeout = 0                                       // streams last
				options = append(options, connecthttp.WithCompressors()) // what is sent is as large as it looks
				all[name+"/"+string(v)] = connect.NewClient(connecthttp.NewTransport(client, s.URL(), options...))
			}
		}
	}
	return all
}

// authorized returns a context for calls with the admin token.
func authorized(ctx context.Context) context.Context { return withToken(ctx, adminToken) }

func withToken(ctx context.Context, token string) context.Context {
	ctx, info := connect.NewClientContext(ctx)
	info.RequestHeader().Set("Authorization", "Bearer "+token)
	return ctx
}

// watching is a watch of mails that can be read.
type watching struct {
	t      *testing.T
	stream mailkeepv1connect.MessageServiceWatchMessagesClientStream
}

func watch(t *testing.T, client *connect.Client, req *mailkeepv1.WatchMessagesRequest) watching {
	t.Helper()
	return watchAs(authorized(t.Context()), t, client, req)
}

func watchAs(ctx context.Context, t *testing.T, client *connect.Client, req *mailkeepv1.WatchMessagesRequest) watching {
	t.Helper()
	stream, err := mailkeepv1connect.NewMessageServiceClient(client).WatchMessages(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Close() })
	return watching{t, stream}
}

// until reads up to the first change that is wanted and returns the states seen, one mail after the other
// if there are several.
func (w watching) until(wanted func(*mailkeepv1.Message) bool) (seen map[string][]string) {
	w.t.Helper()
	seen = map[string][]string{}
	for {
		res, err := w.stream.Receive()
		if err != nil {
			w.t.Fatalf("after %v: %v", seen, err)
		}
		m := res.GetMessage()
		state := strings.ToLower(strings.TrimPrefix(m.GetState().String(), "MESSAGE_STATE_"))
		if states := seen[m.GetId()]; len(states) == 0 || states[len(states)-1] != state {
			seen[m.GetId()] = append(states, state)
		}
		if wanted(m) {
			return seen
		}
	}
}

func (w watching) ends(code connect.Code, text string) {
	w.t.Helper()
	_, err := w.stream.Receive()
	if code == 0 && !errors.Is(err, io.EOF) || code != 0 && (connect.CodeOf(err) != code || !strings.Contains(err.Error(), text)) {
		w.t.Errorf("the stream ends with %v", err)
	}
}

// begun waits until watches of a tag, or of all mails, see what happens from then on.
func (r *mailRun) begun(tag string, all ...watching) {
	r.t.Helper()
	seen := make(chan error, len(all))
	for _, w := range all {
		go func() { _, err := w.stream.Receive(); seen <- err }()
	}
	for left := len(all); left > 0; {
		r.call("SendMessage", `{"to":["r@example.com"],"text":"x","tag":"`+tag+`"}`)
		select {
		case err := <-seen:
			if left--; err != nil {
				r.t.Fatal(err)
			}
		case <-time.After(20 * time.Millisecond): // it began after that
		}
	}
}

func settled(m *mailkeepv1.Message) bool {
	return m.GetState() == mailkeepv1.MessageState_MESSAGE_STATE_DELIVERED || m.GetState() == mailkeepv1.MessageState_MESSAGE_STATE_FAILED
}

// TestWatchMessages watches mails over every protocol that has streams.
func TestWatchMessages(t *testing.T) {
	s := start(t, config(t))
	for name, client := range s.streaming() {
		t.Run(name, func(t *testing.T) {
			server, err := smtptest.StartHostile(smtptest.Script{Answers: map[string]smtptest.Answer{
				smtptest.RcptTo: smtptest.First(1, smtptest.Say("451 4.7.1 later\r\n")),
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = server.Close() }()
			r := &mailRun{t: t, s: s, wire: s.wires(http1)[0], provider: s.addProvider(t, server.Addr(), "p")}

			// One mail, from where it waits to its end.
			id, f := r.post("x", 1)
			r.wants(f, "QUEUED", 1)
			one := watch(t, client, &mailkeepv1.WatchMessagesRequest{Id: id})
			first := one.until(func(*mailkeepv1.Message) bool { return true })
			r.call("RetryMessage", `{"id":"`+id+`"}`)
			rest := one.until(settled)
			if got := strings.Join(append(first[id], rest[id]...), " "); got != "queued queued sending delivered" && got != "queued sending delivered" {
				t.Errorf("states %s", got)
			}
			one.ends(0, "")

			// A mail that has ended, and one that there never was.
			ended := watch(t, client, &mailkeepv1.WatchMessagesRequest{Id: id})
			if got := ended.until(settled)[id]; !slices.Equal(got, []string{"delivered"}) {
				t.Errorf("states %v", got)
			}
			ended.ends(0, "")
			watch(t, client, &mailkeepv1.WatchMessagesRequest{Id: "01234567890123456789012345"}).ends(connect.CodeNotFound, "MAILKEEP-MESSAGE")

			r.mailsOfATag(name, client)
		})
	}
}

// mailsOfATag watches the mails of a tag among others.
// TestWatchWithARevokedToken: a stream shows nothing to a token that was revoked meanwhile.
func TestWatchWithARevokedToken(t *testing.T) {
	s := start(t, config(t))
	r := &mailRun{t: t, s: s, wire: s.wires(http1)[0], inbox: inbox(t, "p1")}
	r.provider = s.addProvider(t, r.inbox.Addr(), "p1")
	r.call("ActivateEmailProvider", `{"id":"$provider"}`)
	for name, client := range s.streaming() {
		t.Run(name, func(t *testing.T) {
			token, id := s.createToken(t, `{"name":"sender","roles":["MESSAGE_SENDER"]}`)
			w := watchAs(withToken(t.Context(), token), t, client, &mailkeepv1.WatchMessagesRequest{Tag: name})
			r.begun(name, w)
			if reply := s.send(t, s.client(http1), raw{verb: "DELETE", path: "/v1/tokens/" + id}); reply.status != 200 {
				t.Fatalf("revoke: %d %s", reply.status, reply.body)
			}
			secret, _ := r.call("SendMessage", `{"to":["r@example.com"],"text":"x","tag":"`+name+`"}`).at("id").(string)
			for {
				res, err := w.stream.Receive()
				if res.GetMessage().GetId() == secret {
					t.Error("a revoked token is shown a new mail")
				}
				if err != nil {
					if connect.CodeOf(err) != connect.CodeUnauthenticated {
						t.Errorf("the stream ends with %v", err)
					}
					return
				}
			}
		})
	}
}

func (r *mailRun) mailsOfATag(tag string, client *connect.Client) {
	t := r.t
	w := watch(t, client, &mailkeepv1.WatchMessagesRequest{Tag: tag})
	r.begun(tag, w)
	send := func(tag string) string {
		id, _ := r.call("SendMessage", `{"to":["r@example.com"],"text":"x","tag":"`+tag+`"}`).at("id").(string)
		return id
	}
	want := map[string][]string{}
	for range 5 {
		send("other")
		want[send(tag)] = []string{"queued", "sending", "delivered"}
	}
	left := len(want)
	seen := w.until(func(m *mailkeepv1.Message) bool {
		if m.GetTag() != tag {
			t.Errorf("a mail of tag %q", m.GetTag())
		}
		if want[m.GetId()] != nil && settled(m) {
			left--
		}
		return left == 0
	})
	for id, states := range want {
		if diff := cmp.Diff(states, seen[id]); diff != "" {
			t.Errorf("mail %s (-want +got):\n%s", id, diff)
		}
	}
}

// TestWatchIsNotRead has a watcher that reads nothing while a lot changes: it is told so, and another one
// misses nothing meanwhile.
func TestWatchIsNotRead(t *testing.T) {
	s := start(t, config(t))
	s.addProvider(t, inbox(t, "p1").Addr(), "p1")
	clients := s.streaming()
	const tag = "large"
	slow := map[string]watching{}
	for _, name := range []string{"connect/h1", "grpcweb/h1", "grpc/h2"} {
		slow[name] = watch(t, clients[name], &mailkeepv1.WatchMessagesRequest{Tag: tag})
	}
	// Far more than the buffers and windows of a connection hold: a change shows every recipient.
	const mails = 720
	var to []string
	for i := range 50 {
		to = append(to, fmt.Sprintf(`"%s%d@%s.example"`, strings.Repeat("r", 60), i, strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 60)+".", 3), ".")))
	}
	body := `{"text":"x","tag":"` + tag + `","to":[` + strings.Join(to, ",") + `]}`
	quick := watch(t, clients["grpc/h2"], &mailkeepv1.WatchMessagesRequest{Tag: tag})
	(&mailRun{t: t, s: s, wire: s.wires(http1)[0]}).begun(tag, append(slices.Collect(maps.Values(slow)), quick)...)
	var load sync.WaitGroup
	for i := range 8 {
		r := &mailRun{t: t, s: s, wire: s.wires([]httpVersion{http1, http2}[i%2])[0]}
		load.Go(func() {
			for range mails / 8 {
				r.call("SendMessage", body)
			}
		})
	}
	left, large := mails, map[string]bool{}
	seen := quick.until(func(m *mailkeepv1.Message) bool {
		if len(m.GetRecipients()) > 1 {
			large[m.GetId()] = true
		}
		if large[m.GetId()] && settled(m) {
			left--
		}
		return left == 0
	})
	load.Wait()
	missed := 0
	for id := range large {
		states := seen[id]
		if missed += 3 - len(states); strings.Join(states, " ") != "queued sending delivered" {
			t.Errorf("mail %s: %v", id, states)
		}
	}
	ended := 0
	for name, w := range slow {
		for n := 0; ; n++ {
			if _, err := w.stream.Receive(); err != nil {
				if connect.CodeOf(err) != connect.CodeAborted || !strings.Contains(err.Error(), "MAILKEEP-SLOW") {
					t.Errorf("%s: the stream ends after %d changes with %v", name, n, err)
				}
				ended++
				break
			}
			if n == 3*mails {
				t.Errorf("%s: it is told of everything", name)
				break
			}
		}
	}
	t.Logf("REL watch_slow slow=%d ended=%d changes=%d missed_by_reader=%d", len(slow), ended, 3*mails, missed)
}

// TestWatchersAndShutdown stops a service that has watchers: they are told, and it is not held up.
func TestWatchersAndShutdown(t *testing.T) {
	s := start(t, config(t))
	s.addProvider(t, inbox(t, "p1").Addr(), "p1")
	r := &mailRun{t: t, s: s, wire: s.wires(http1)[0]}
	var all []watching
	for _, client := range s.streaming() {
		all = append(all, watch(t, client, &mailkeepv1.WatchMessagesRequest{}))
	}
	r.begun("", all...)
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	for _, w := range all {
		var err error
		for err == nil {
			_, err = w.stream.Receive()
		}
		if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "going down") {
			t.Errorf("the stream ends with %v", err)
		}
	}
	told := time.Since(began)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	t.Logf("REL watch_shutdown watchers=%d told_ms=%d stopped_ms=%d", len(all), told.Milliseconds(), took.Milliseconds())
	if told > 2*time.Second || took > 4*time.Second {
		t.Errorf("watchers were told after %s, the service stopped after %s", told, took)
	}
}

// TestWatchRotatePassword follows rotations over every protocol that has streams.
func TestWatchRotatePassword(t *testing.T) {
	s := start(t, config(t))
	for name, client := range s.streaming() {
		t.Run(name, func(t *testing.T) {
			server := inbox(t, "p1")
			providers := mailkeepv1connect.NewProviderServiceClient(client)
			rotation := &mailkeepv1.RotatePasswordRequest{Id: s.addProvider(t, server.Addr(), "p1"), Password: "wrong-horse"}
			const want = "dns tcp greeting ehlo auth"

			steps, result, err := follow(t, providers, rotation)
			if steps != want || result != nil || connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "EMAIL-s9kfs") {
				t.Errorf("refused: steps %s, %v, %v", steps, result, err)
			}
			watched := reportIn(t, err)
			_, err = providers.RotatePassword(authorized(t.Context()), rotation)
			if diff := cmp.Diff(watched, reportIn(t, err), protocmp.Transform(), protocmp.IgnoreFields(&mailkeepv1.VerificationStep{}, "duration")); diff != "" {
				t.Errorf("the reports differ (-watched +called):\n%s", diff)
			}

			server.SetPassword(user, "p2")
			rotation.Password = "p2"
			steps, result, err = follow(t, providers, rotation)
			if err != nil || steps != want || result.GetCredentialVersion() != 2 || !result.GetReport().GetPassed() {
				t.Errorf("accepted: steps %s, %v, %v", steps, result, err)
			}
		})
	}
}

// follow follows a rotation and returns its steps and how it ended.
func follow(t *testing.T, providers mailkeepv1connect.ProviderServiceClient, rotation *mailkeepv1.RotatePasswordRequest) (
	steps string, result *mailkeepv1.RotatePasswordResponse, err error,
) {
	t.Helper()
	stream, err := providers.WatchRotatePassword(authorized(t.Context()), &mailkeepv1.WatchRotatePasswordRequest{Rotation: rotation})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	for {
		res, err := stream.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return steps, result, nil
		case err != nil:
			return steps, result, err
		case result != nil:
			t.Errorf("%v after the result", res)
		}
		if step := res.GetStep(); step != nil {
			steps = strings.TrimSpace(steps + " " + step.GetStep())
		}
		result = res.GetResult()
	}
}

// reportIn returns the report in the details of an error, and checks what it says of a wrong password.
func reportIn(t *testing.T, err error) *mailkeepv1.VerificationReport {
	t.Helper()
	var told *connect.Error
	if !errors.As(err, &told) {
		t.Fatalf("err = %v", err)
	}
	for _, d := range told.Details() {
		m, err := connectproto.UnmarshalErrorDetail(d)
		if err != nil {
			t.Error(err)
		}
		if report, ok := m.(*mailkeepv1.VerificationReport); ok {
			checkRefusal(t, report)
			return report
		}
	}
	t.Fatalf("no report among the details of %v", err)
	return nil
}

func checkRefusal(t *testing.T, report *mailkeepv1.VerificationReport) {
	t.Helper()
	text := fmt.Sprint(report)
	last := report.GetSteps()[len(report.GetSteps())-1]
	if report.GetPassed() || last.GetStep() != "auth" || last.GetPassed() || last.GetCode() != 535 || strings.Contains(text, "horse") {
		t.Errorf("report %s", text)
	}
}

// TestRotationRefusedOverREST finds the same report among the details of google.rpc.Status.
func TestRotationRefusedOverREST(t *testing.T) {
	s := start(t, config(t))
	id := s.addProvider(t, inbox(t, "p1").Addr(), "p1")
	for _, v := range []httpVersion{http1, http2} {
		r := s.send(t, s.client(v), raw{"POST", "/v1/providers/" + id + "/_rotate", nil, `{"password":"wrong-horse"}`})
		var status fields
		if err := json.Unmarshal([]byte(r.body), &status); err != nil {
			t.Fatal(err)
		}
		details, _ := status.at("details").([]any)
		if r.status != 400 || len(details) != 2 || status.at("code") != float64(connect.CodeFailedPrecondition) {
			t.Fatalf("%d %s", r.status, r.body)
		}
		detail := details[1].(map[string]any)
		if detail["@type"] != "type.googleapis.com/mailkeep.v1.VerificationReport" {
			t.Fatalf("detail %v", detail)
		}
		delete(detail, "@type")
		text, err := json.Marshal(detail)
		if err != nil {
			t.Fatal(err)
		}
		checkRefusal(t, message(t, "mailkeep.v1.VerificationReport", string(text)).(*mailkeepv1.VerificationReport))
	}
}
