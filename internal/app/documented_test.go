package app_test

import (
	"encoding/base64"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	"github.com/mailkeep/mailkeep/internal/httpserver/webtexttest"
)

// TestDocumentedContentTypes calls PUT /admin/v1/smtp/{id}/password and its successor with the three
// content types that the public page of the method documents, as literally as it can be done.
func TestDocumentedContentTypes(t *testing.T) {
	s := start(t, config(t))
	server := inbox(t, "p1")
	id := s.addProvider(t, server.Addr(), "p1")
	request, err := proto.Marshal(&adminv1.UpdateSMTPConfigPasswordRequest{Password: "framed", Id: "ignored: the path wins"})
	if err != nil {
		t.Fatal(err)
	}
	const json = `{"password": "this-is-my-updated-password"}`
	for _, c := range []struct {
		name, contentType, body, password string
		check                             func(t *testing.T, r reply)
	}{
		{"json", "application/json", json, "this-is-my-updated-password", answeredJSON},
		{"json with charset", "application/json; charset=utf-8", json, "this-is-my-updated-password", answeredJSON},
		{"no content type", "", json, "this-is-my-updated-password", answeredJSON},
		{"any content type", "text/plain", json, "this-is-my-updated-password", answeredJSON},
		{"grpc", "application/grpc", frame(request), "framed", answeredGRPC},
		{"grpc+proto", "application/grpc+proto", frame(request), "framed", answeredGRPC},
		{"grpc-web+proto", "application/grpc-web+proto", frame(request), "framed", answeredWeb},
		{"grpc-web", "application/grpc-web", frame(request), "framed", answeredWeb},
		{"grpc-web-text", "application/grpc-web-text", base64.StdEncoding.EncodeToString([]byte(frame(request))), "framed", answeredText},
		{"json labelled grpc", "application/grpc", json, "this-is-my-updated-password", answeredJSON},
		{"json labelled grpc-web+proto", "application/grpc-web+proto", json, "this-is-my-updated-password", answeredJSON},
		{"json labelled grpc-web-text", "application/grpc-web-text", json, "this-is-my-updated-password", answeredJSON},
		{"spaced json labelled grpc", "application/grpc", " \n" + json, "this-is-my-updated-password", answeredJSON},
	} {
		for _, path := range []string{"/admin/v1/smtp/" + id + "/password", "/admin/v1/email/smtp/" + id + "/password"} {
			for _, v := range []httpVersion{http1, http2} {
				t.Run(c.name+path[:16]+string(v), func(t *testing.T) {
					version := server.SetPassword(user, c.password)
					r := s.send(t, s.client(v), raw{"PUT", path, map[string]string{"Content-Type": c.contentType, "Accept": "application/json"}, c.body})
					c.check(t, r)
					s.sendTest(t, id)
					mails := server.Mails()
					if got := mails[len(mails)-1].Version; got != version {
						t.Errorf("the next mail came with password version %d, want %d", got, version)
					}
				})
			}
		}
	}
}

func answeredJSON(t *testing.T, r reply) {
	t.Helper()
	if r.status != 200 || r.header.Get("Content-Type") != "application/json" ||
		!strings.HasPrefix(r.body, `{"details":{"sequence":"`) || strings.Contains(r.body, " ") {
		t.Errorf("%d %s %s", r.status, r.header.Get("Content-Type"), r.body)
	}
}

func answeredGRPC(t *testing.T, r reply) {
	t.Helper()
	if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "application/grpc") || r.trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%d %v %v %q", r.status, r.header, r.trailer, r.body)
	}
	checkDetails(t, r.body)
}

func answeredWeb(t *testing.T, r reply) {
	t.Helper()
	if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "application/grpc-web") {
		t.Errorf("%d %v %q", r.status, r.header, r.body)
	}
	if trailer := checkDetails(t, r.body); !strings.Contains(strings.ToLower(trailer), "grpc-status: 0") {
		t.Errorf("trailer %q", trailer)
	}
}

func answeredText(t *testing.T, r reply) {
	t.Helper()
	if !strings.HasPrefix(r.header.Get("Content-Type"), "application/grpc-web-text") {
		t.Errorf("%v %q", r.header, r.body)
	}
	decoded, err := io.ReadAll(webtexttest.NewDecoder(strings.NewReader(r.body)))
	if err != nil {
		t.Fatal(err)
	}
	r.body = string(decoded)
	answeredWeb(t, r)
}

func checkDetails(t *testing.T, body string) (trailer string) {
	t.Helper()
	messages, trailer := unframe(t, body)
	var res adminv1.UpdateSMTPConfigPasswordResponse
	if len(messages) != 1 || proto.Unmarshal(messages[0], &res) != nil || res.GetDetails().GetSequence() == 0 {
		t.Errorf("%d messages: %v", len(messages), &res)
	}
	return trailer
}

// addProvider adds and activates a provider over REST and returns its id.
func (s *service) addProvider(t *testing.T, host, password string) string {
	t.Helper()
	client := s.client(http1)
	req := message(t, "zitadel.admin.v1.AddEmailProviderSMTPRequest", `{"senderAddress":"sender@example.com","senderName":"S","host":"`+host+`","user":"`+user+`","password":"`+password+`"}`)
	a := s.callREST(t, client, adminToken, methods()["AddEmailProviderSMTP"], req)
	id, _ := a.fields.at("id").(string)
	if id == "" {
		t.Fatal(a)
	}
	a = s.callREST(t, client, adminToken, methods()["ActivateEmailProvider"], message(t, "zitadel.admin.v1.ActivateEmailProviderRequest", `{"id":"`+id+`"}`))
	if a.code != 0 {
		t.Fatal(a)
	}
	return id
}

// sendTest sends a test mail through a provider.
func (s *service) sendTest(t *testing.T, id string) {
	t.Helper()
	r := s.send(t, s.client(http1), raw{"POST", "/admin/v1/email/smtp/" + id + "/_test", nil, `{"receiverAddress":"r@example.com"}`})
	if r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
}
