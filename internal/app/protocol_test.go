package app_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
)

const (
	unknownRoute = `{"code":5,"message":"Not Found"}`
	wrongVerb    = `{"code":12,"message":"Method Not Allowed"}`
)

// TestRoutes is what answers at paths that are no method's, and how ids get out of paths.
func TestRoutes(t *testing.T) {
	s := start(t, config(t))
	const notFound = `{"code":5,"message":"email provider not found (QUERY-fwofw)","details":[{"@type":"type.googleapis.com/zitadel.v1.ErrorDetail","id":"QUERY-fwofw","message":"email provider not found"}]}`
	for _, c := range []struct {
		raw
		status int
		body   string // exactly, unless empty
		header string // "Name: value" that must be there
	}{
		{raw{verb: "GET", path: "/"}, 404, unknownRoute, "Content-Type: application/json"},
		{raw{verb: "GET", path: "/admin/v1/nothing"}, 404, unknownRoute, ""},
		{raw{verb: "GET", path: "/admin/v1/smtp/"}, 404, unknownRoute, ""},
		{raw{verb: "GET", path: "/admin/v1/smtp/1/password"}, 405, wrongVerb, "Allow: PUT"},
		{raw{verb: "PATCH", path: "/admin/v1/smtp/1"}, 405, wrongVerb, "Allow: DELETE, GET, PUT"},
		{raw{verb: "DELETE", path: "/admin/v1/smtp"}, 405, wrongVerb, "Allow: GET, POST"},
		{raw{verb: "PUT", path: "/admin/v1/smtp/1/password/"}, 404, unknownRoute, ""},
		{raw{verb: "GET", path: "/admin/v1/smtp"}, 404, notFound, ""},
		{raw{verb: "GET", path: "/admin/v1/email/1"}, 404, notFound, ""},
		{raw{verb: "GET", path: "/admin/v1/email/%2e%2e"}, 404, notFound, ""},
		{raw{verb: "GET", path: "/admin/v1/email/..%2Fx"}, 404, notFound, ""},
		{raw{verb: "GET", path: "/admin/v1/email/%252F"}, 404, notFound, ""},
		{raw{verb: "GET", path: "/admin/v1/email/%00"}, 404, notFound, ""},
		{raw{verb: "GET", path: "/admin/v1/email/1'%20OR%20'1'='1"}, 404, notFound, ""},
		{raw{verb: "GET", path: "/admin/v1/email/../email/1"}, 404, unknownRoute, ""},
		{raw{verb: "GET", path: "/admin/v1//email/1"}, 404, unknownRoute, ""},
		{raw{verb: "POST", path: "/x/../zitadel.admin.v1.AdminService/GetEmailProvider", header: contentType("application/json")}, 404, unknownRoute, ""},
		{raw{verb: "POST", path: "/grpc.health.v1.Health/Check", header: contentType("application/json"), body: `{"service":CANARY}`}, 400,
			`{"code":"invalid_argument","message":"the request message can't be decoded (line 1:12)"}`, ""},
		{raw{verb: "GET", path: "/admin/v1/email/" + strings.Repeat("1", 101)}, 400, "", ""},
		{raw{verb: "HEAD", path: "/livez"}, 200, "", ""},
		{raw{verb: "GET", path: "/livez"}, 200, "ok\n", ""},
		{raw{verb: "GET", path: "/readyz"}, 200, "ok\n", ""},
		{raw{verb: "GET", path: "/openapi.yaml"}, 200, "", "Content-Type: application/yaml"},

		{raw{verb: "POST", path: "/zitadel.admin.v1.AdminService/Nothing", header: contentType("application/grpc")}, 200, "", "Content-Type: application/grpc"},
		{raw{verb: "POST", path: "/zitadel.admin.v1.AdminService/Nothing", header: contentType("application/grpc-web+proto")}, 200, "", "Grpc-Status: 12"},
		{raw{verb: "POST", path: "/no.such.Service/Nothing", header: contentType("application/grpc-web+proto")}, 200, "", "Grpc-Status: 12"},
		{raw{verb: "POST", path: "/no.such.Service/Nothing", header: contentType("application/grpc-web-text")}, 200, "", "Grpc-Status: 12"},
		{raw{verb: "POST", path: "/nothing", header: contentType("application/grpc-web")}, 200, "", "Grpc-Status: 12"},
		{raw{verb: "PUT", path: "/admin/v1/nothing", header: contentType("application/grpc-web")}, 200, "", "Grpc-Status: 12"},
		{raw{verb: "POST", path: "/zitadel.admin.v1.AdminService/Nothing", header: contentType("application/json")}, 501, `{"code":"unimplemented","message":"unknown method"}`, ""},
		{raw{verb: "GET", path: "/zitadel.admin.v1.AdminService/Nothing"}, 404, unknownRoute, ""},
		{raw{verb: "GET", path: "/zitadel.admin.v1.AdminService/UpdateSMTPConfigPassword?connect=v1&encoding=json&message=%7B%7D"}, 405, "", "Allow: POST"},
		{raw{verb: "POST", path: "/zitadel.admin.v1.AdminService/GetEmailProvider", header: contentType("text/plain")}, 415, "", ""},
		{raw{verb: "POST", path: "/zitadel.admin.v1.AdminService/GetEmailProvider", header: contentType("application/json"), body: "{}"}, 404,
			"", "Content-Type: application/json"},
	} {
		for _, v := range []httpVersion{http1, http2} {
			t.Run(fmt.Sprintf("%s %.60s %s %s", c.verb, c.path, c.raw.header["Content-Type"], v), func(t *testing.T) {
				r := s.send(t, s.client(v), c.raw)
				if r.status != c.status || c.body != "" && r.body != c.body {
					t.Errorf("%d %s, want %d %s", r.status, r.body, c.status, c.body)
				}
				if name, value, ok := strings.Cut(c.header, ": "); ok && r.header.Get(name) != value && r.trailer.Get(name) != value {
					t.Errorf("%s: %q, want %q", name, r.header.Get(name), value)
				}
				if r.header.Get("X-Request-Id") == "" {
					t.Error("no request id")
				}
			})
		}
	}
}

func contentType(ct string) map[string]string { return map[string]string{"Content-Type": ct} }

// TestJSON is what REST and Connect take for JSON and give back.
func TestJSON(t *testing.T) {
	s := start(t, config(t))
	id := s.addProvider(t, "127.0.0.1:25", "p1")
	const connectPath = "/zitadel.admin.v1.AdminService/"
	for _, c := range []struct {
		name, rest, rpc, body string
		ok                    bool
		want                  string // in the body
	}{
		{"snake case", "POST /admin/v1/email/smtp", "AddEmailProviderSMTP", `{"sender_address":"s@example.com","sender_name":"S","host":"h:25"}`, true, ""},
		{"camel case", "POST /admin/v1/email/smtp", "AddEmailProviderSMTP", `{"senderAddress":"s@example.com","senderName":"S","host":"h:25"}`, true, ""},
		{"both spellings", "POST /admin/v1/email/smtp", "AddEmailProviderSMTP", `{"senderAddress":"s@example.com","sender_address":"s@example.com","senderName":"S","host":"h:25"}`, false, ""},
		{"unknown fields", "POST /admin/v1/email/smtp", "AddEmailProviderSMTP", `{"senderAddress":"s@example.com","senderName":"S","host":"h:25","x":{"y":[1,null]}}`, true, ""},
		{"duplicate key", "POST /admin/v1/email/smtp", "AddEmailProviderSMTP", `{"senderAddress":"s@example.com","senderName":"S","host":"h:25","host":"i:25"}`, false, ""},
		{"tls as text", "POST /admin/v1/email/smtp", "AddEmailProviderSMTP", `{"senderAddress":"s@example.com","senderName":"S","host":"h:25","tls":"true"}`, false, ""},
		{"offset as text", "POST /admin/v1/email/_search", "ListEmailProviders", `{"query":{"offset":"0","limit":1}}`, true, `"totalResult":"`},
		{"offset as number", "POST /admin/v1/email/_search", "ListEmailProviders", `{"query":{"offset":0}}`, true, ""},
		{"empty body", "POST /admin/v1/email/_search", "ListEmailProviders", ``, true, ""},
		{"null", "POST /admin/v1/email/_search", "ListEmailProviders", `null`, true, ""},
		{"null field", "POST /admin/v1/email/_search", "ListEmailProviders", `{"query":null}`, true, ""},
		{"open brace", "POST /admin/v1/email/_search", "ListEmailProviders", `{`, false, ""},
		{"array", "POST /admin/v1/email/_search", "ListEmailProviders", `[]`, false, ""},
		{"text", "POST /admin/v1/email/_search", "ListEmailProviders", `"x"`, false, ""},
		{"trailing data", "POST /admin/v1/email/_search", "ListEmailProviders", `{}{}`, false, ""},
		{"invalid UTF-8", "POST /admin/v1/email/_search", "ListEmailProviders", "{\"x\":\"\xff\"}", false, ""},
		{"10,001 levels", "POST /admin/v1/email/_search", "ListEmailProviders", strings.Repeat(`{"q":`, 10001) + "1" + strings.Repeat("}", 10001), false, ""},
		{"10,001 levels of unknown", "POST /admin/v1/email/_search", "ListEmailProviders", `{"x":` + strings.Repeat("[", 10001) + strings.Repeat("]", 10001) + "}", false, ""},
		{"NUL in a name", "POST /admin/v1/email/smtp", "AddEmailProviderSMTP", `{"senderAddress":"s@example.com","senderName":"S\u0000","host":"h:25"}`, false, ""},
		{"a number as password", "PUT /admin/v1/email/smtp/" + id + "/password", "UpdateEmailProviderSMTPPassword", `{"password":12345678}`, false, ""},
		{"a field that our own messages don't have", "POST /v1/messages/_search", "/mailkeep.v1.MessageService/ListMessages", `{"state":["MESSAGE_STATE_QUEUED"]}`, false, "has a field that does not exist (line 1:2)"},
		{"an enum value that does not exist", "POST /v1/messages/_search", "/mailkeep.v1.MessageService/ListMessages", `{"states":["QUEUED"]}`, false, "has an enum value that does not exist (line 1:12)"},
		{"a short name of an enum value", "POST /v1/providers/" + id + "/_rotate", "/mailkeep.v1.ProviderService/RotatePassword", `{"id":"` + id + `","password":"x","verify":"OFF"}`, true, `"credentialVersion":"`},
		{"expiration other than 0s", "PUT /admin/v1/email/http/" + id, "UpdateEmailProviderHTTP", `{"id":"` + id + `","endpoint":"https://e.example","expirationSigningKey":"1s"}`, false, "value must equal 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			verb, path, _ := strings.Cut(c.rest, " ")
			overREST := s.send(t, s.client(http1), raw{verb, path, nil, c.body})
			if !strings.HasPrefix(c.rpc, "/") {
				c.rpc = connectPath + c.rpc
			}
			overRPC := s.send(t, s.client(http1), raw{"POST", c.rpc, contentType("application/json"), c.body})
			for _, r := range []reply{overREST, overRPC} {
				if want := map[bool]int{true: 200, false: 400}[c.ok]; r.status != want || !strings.Contains(r.body, c.want) {
					t.Errorf("%d %.300s, want %d and %s", r.status, r.body, want, c.want)
				}
				if strings.Contains(r.body, "12345678") {
					t.Errorf("the answer repeats what was sent: %s", r.body)
				}
			}
			if !json.Valid([]byte(overREST.body)) || bytes.ContainsAny([]byte(strings.SplitN(overREST.body, `"message"`, 2)[0]), " \n") {
				t.Errorf("not compact JSON: %s", overREST.body)
			}
		})
	}
	if strings.Contains(s.log.String(), "12345678") {
		t.Error("the log repeats what was sent")
	}
}

// TestBounds is what becomes of requests that are too large, or say they are.
func TestBounds(t *testing.T) {
	s := start(t, config(t))
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	_, _ = zip.Write(bytes.Repeat([]byte(" "), 50<<20))
	_ = zip.Close()
	large := `{"x":"` + strings.Repeat("x", 70<<10) + `"}`
	const rpc = "/zitadel.admin.v1.AdminService/ListEmailProviders"
	with := func(kv ...string) map[string]string {
		h := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i]] = kv[i+1]
		}
		return h
	}
	for _, c := range []struct {
		name string
		raw
		status int
		grpc   string // status, if the answer is gRPC-Web
	}{
		{"large REST", raw{"POST", "/admin/v1/email/_search", nil, large}, 429, ""},
		{"huge REST", raw{"POST", "/admin/v1/email/_search", nil, strings.Repeat(large, 4)}, 429, ""},
		{"large Connect", raw{"POST", rpc, contentType("application/json"), large}, 429, ""},
		{"huge Connect", raw{"POST", rpc, contentType("application/json"), strings.Repeat(large, 4)}, 429, ""},
		{"gzip bomb to REST", raw{"POST", "/admin/v1/email/_search", with("Content-Encoding", "gzip"), bomb.String()}, 429, ""},
		{"gzip bomb to Connect", raw{"POST", rpc, with("Content-Type", "application/json", "Content-Encoding", "gzip"), bomb.String()}, 429, ""},
		{"not gzip to REST", raw{"POST", "/admin/v1/email/_search", with("Content-Encoding", "gzip"), "{}"}, 400, ""},
		{"brotli to REST", raw{"POST", "/admin/v1/email/_search", with("Content-Encoding", "br"), "{}"}, 501, ""},
		{"a frame of 4 GiB, it says", raw{"POST", rpc, contentType("application/grpc-web"), "\x00\xff\xff\xff\xff"}, 200, "8"},
		{"a frame that ends early", raw{"POST", rpc, contentType("application/grpc-web"), "\x00\x00\x00\x00\x05ab"}, 200, "13"}, // as connect has it,
		{"not a message", raw{"POST", rpc, contentType("application/grpc-web"), frame([]byte("\xff\xff\xff"))}, 200, "3"},
		{"no message", raw{"POST", rpc, contentType("application/grpc-web"), ""}, 200, "12"},
		{"two messages", raw{"POST", rpc, contentType("application/grpc-web"), frame(nil) + frame(nil)}, 200, "12"},
		{"bad timeout", raw{"POST", rpc, with("Content-Type", "application/json", "Connect-Timeout-Ms", "soon"), "{}"}, 400, ""},
		{"negative timeout", raw{"POST", rpc, with("Content-Type", "application/json", "Connect-Timeout-Ms", "-1"), "{}"}, 400, ""},
		{"long token", raw{"GET", "/admin/v1/email", with("Authorization", "Bearer "+strings.Repeat("x", 9<<10)), ""}, 401, ""},
		{"long header", raw{"GET", "/admin/v1/email", with("X-Y", strings.Repeat("x", 64<<10)), ""}, 431, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.send(t, s.client(http1), c.raw)
			got := r.header.Get("Grpc-Status")
			if r.status != c.status || c.grpc != "" && got != c.grpc {
				t.Errorf("%d grpc-status %q %.200q, want %d %q", r.status, got, r.body, c.status, c.grpc)
			}
		})
	}
}

// TestTimeout has a call that takes longer than its caller allows: the server itself says so.
func TestTimeout(t *testing.T) {
	s := start(t, config(t))
	silent, _ := silentServer(t)
	id := s.addProvider(t, silent, "p1")
	r := s.send(t, s.client(http1), raw{"POST", "/zitadel.admin.v1.AdminService/TestEmailProviderSMTPById",
		map[string]string{"Content-Type": "application/json", "Connect-Timeout-Ms": "200"}, `{"id":"` + id + `","receiverAddress":"r@example.com"}`})
	if r.status != http.StatusGatewayTimeout && r.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestBinaryUnknownFields has a message from a newer client.
func TestBinaryUnknownFields(t *testing.T) {
	s := start(t, config(t))
	req, err := proto.Marshal(&adminv1.ListEmailProvidersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	req = append(req, 0xfa, 0x7f, 0x02, 'h', 'i') // field 2047
	r := s.send(t, s.client(http1), raw{"POST", "/zitadel.admin.v1.AdminService/ListEmailProviders", contentType("application/proto"), string(req)})
	if r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}
