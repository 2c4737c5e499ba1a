package app_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// createToken makes a token over the API and returns its secret and id.
func (s *service) createToken(t *testing.T, body string) (plain, id string) {
	t.Helper()
	a := s.callREST(t, s.client(http1), adminToken, methods()["CreateToken"], message(t, "mailkeep.v1.CreateTokenRequest", body))
	plain, _ = a.fields.at("secret").(string)
	id, _ = a.fields.at("token", "id").(string)
	if plain == "" || id == "" {
		t.Fatal(a)
	}
	return plain, id
}

// TestOperators is what those may call who look after the system, over every protocol, with a body that must not be
// decoded before that is known. TestMatrix is about all others.
func TestOperators(t *testing.T) {
	s := start(t, config(t))
	system, _ := s.createToken(t, `{"name":"system","roles":["SYSTEM_OWNER"]}`)
	for _, who := range []struct {
		name, token string
		permissions string
		code        connect.Code // where the permission is missing
		id          string
	}{
		{"system", system, "system.write", connect.CodePermissionDenied, denied},
		{"admin", adminToken, "iam.read iam.write token.read token.write message.send message.read message.content audit.read system.write", 0, ""},
	} {
		for _, w := range append(s.wires(http1), s.wires(http2)...) {
			for _, m := range methods() {
				allowed := strings.Contains(" "+who.permissions+" ", " "+m.Permission+" ")
				if allowed && (m.Name == "RotateKeys" || m.Name == "CreateToken") && w.name != "rest/h1" {
					continue // once is enough
				}
				if !offered(w, m) {
					continue
				}
				body := "{}"
				if m.Name == "WatchMessages" {
					body = `{"id":"unknown"}` // else it would be watched for ever
				}
				a := w.call(t, who.token, m, message(t, string(m.Descriptor.Input().FullName()), body))
				if allowed && (a.code == connect.CodeUnauthenticated || a.code == connect.CodePermissionDenied) && m.Name != "CreateToken" {
					t.Errorf("%s may not call %s over %s: %v", who.name, m.Name, w.name, a)
				}
				if !allowed && (a.code != who.code || a.id != who.id) {
					t.Errorf("%s calls %s over %s: %v, want %v", who.name, m.Name, w.name, a, who.code)
				}
				if m.Deprecated != (a.header.Get("Deprecation") != "") {
					t.Errorf("%s calls %s over %s: Deprecation: %q", who.name, m.Name, w.name, a.header.Get("Deprecation"))
				}
			}
		}
	}
}

// TestTokenBeforeDecoding sends what can't be decoded, without a token: the answer is about the token.
func TestTokenBeforeDecoding(t *testing.T) {
	s := start(t, config(t))
	const rpc = "/zitadel.admin.v1.AdminService/UpdateSMTPConfigPassword"
	for _, q := range []raw{
		{"PUT", "/admin/v1/smtp/1/password", map[string]string{"Authorization": ""}, "{"},
		{"PUT", "/admin/v1/smtp/1/password", map[string]string{"Authorization": "", "Content-Type": "application/grpc"}, "{"},
		{"POST", rpc, map[string]string{"Authorization": "", "Content-Type": "application/json"}, "{"},
		{"POST", rpc, map[string]string{"Authorization": "", "Content-Type": "application/proto"}, "\xff"},
	} {
		r := s.send(t, s.client(http1), q)
		if r.status != 401 || r.header.Get("Www-Authenticate") != "Bearer" || !strings.Contains(r.body, "auth header missing") {
			t.Errorf("%s %v: %d %s", q.path, q.header, r.status, r.body)
		}
	}
	for authorization, want := range map[string]string{
		"Basic YWRtaW46YWRtaW4=": "AUTH-toLo1", "Bearer": "AUTH-toLo1", "Bearer ": "AUTH-", adminToken: "AUTH-toLo1",
		"Bearer  " + adminToken: "AUTH-7fs1e", "bearer " + adminToken: "QUERY-fwofw",
	} {
		r := s.send(t, s.client(http1), raw{"GET", "/admin/v1/email", map[string]string{"Authorization": authorization}, ""})
		if !strings.Contains(r.body, want) {
			t.Errorf("Authorization %q: %d %s, want %s", authorization, r.status, r.body, want)
		}
	}
	doubled, _ := http.NewRequest("GET", s.URL()+"/admin/v1/email?access_token="+adminToken, nil)
	doubled.Header["Authorization"] = []string{"Bearer " + adminToken, "Bearer " + adminToken}
	res, err := s.client(http1).Do(doubled)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("two Authorization headers: %d", res.StatusCode)
	}
}

// TestTokenCreation is what a caller may give to others.
func TestTokenCreation(t *testing.T) {
	s := start(t, config(t))
	owner, _ := s.createToken(t, `{"name":"owner","roles":["IAM_OWNER"]}`)
	for _, c := range []struct {
		token, body string
		code        connect.Code
		id          string
	}{
		{owner, `{"name":"x","roles":["IAM_OWNER_VIEWER"]}`, 0, ""},
		{owner, `{"name":"x","roles":["SYSTEM_OWNER"]}`, connect.CodePermissionDenied, "MAILKEEP-ROLE"},
		{adminToken, `{"name":"x","roles":["NO_SUCH_ROLE"]}`, connect.CodeInvalidArgument, "MAILKEEP-ROLE"},
		{adminToken, `{"name":"x"}`, connect.CodeInvalidArgument, "MAILKEEP-ROLE"},
		{adminToken, `{"name":"\n","roles":["IAM_OWNER"]}`, connect.CodeInvalidArgument, "MAILKEEP-NAME"},
		{adminToken, `{"name":"x","roles":["IAM_OWNER"],"lifetime":"-1s"}`, connect.CodeInvalidArgument, "MAILKEEP-LIFETIME"},
		{adminToken, `{"name":"x","roles":["IAM_OWNER"],"lifetime":"0s"}`, connect.CodeInvalidArgument, "MAILKEEP-LIFETIME"},
	} {
		a := s.callREST(t, s.client(http1), c.token, methods()["CreateToken"], message(t, "mailkeep.v1.CreateTokenRequest", c.body))
		if a.code != c.code || a.id != c.id {
			t.Errorf("%s: %v, want %v %s", c.body, a, c.code, c.id)
		}
	}
	list := s.send(t, s.client(http1), raw{verb: "GET", path: "/v1/tokens"})
	if !strings.Contains(list.body, `"name":"owner"`) || strings.Contains(list.body, owner) || strings.Contains(list.body, "hash") {
		t.Errorf("list: %s", list.body)
	}
	if r := s.send(t, s.client(http1), raw{verb: "DELETE", path: "/v1/tokens/none"}); r.status != 404 || !strings.Contains(r.body, "MAILKEEP-TOKEN") {
		t.Errorf("revoking no token: %d %s", r.status, r.body)
	}
}

// TestRevokedAdminToken wants a revocation to last, whoever brings the token back.
func TestRevokedAdminToken(t *testing.T) {
	c := config(t)
	c.AdminToken = secret.Text{}
	s := start(t, c)
	made := s.NewAdminToken.Reveal()
	as := map[string]string{"Authorization": "Bearer " + made}
	if r := s.send(t, s.client(http1), raw{"DELETE", "/v1/tokens/admin", as, ""}); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, c)
	if r := s.send(t, s.client(http1), raw{"GET", "/v1/tokens", as, ""}); r.status != 401 || !s.NewAdminToken.Empty() {
		t.Errorf("after a restart: %d %s, a new one: %t", r.status, r.body, !s.NewAdminToken.Empty())
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	c.AdminToken = secret.New(made)
	if _, err := app.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "revoked") || strings.Contains(err.Error(), made) {
		t.Errorf("chosen again: %v", err)
	}
	c.AdminToken = secret.New(adminToken)
	start(t, c).createToken(t, `{"name":"x","roles":["IAM_OWNER"]}`)
}

// TestRevoking has a caller revoke a token that may do more.
func TestRevoking(t *testing.T) {
	s := start(t, config(t))
	owner, _ := s.createToken(t, `{"name":"owner","roles":["IAM_OWNER"]}`)
	r := s.send(t, s.client(http1), raw{"DELETE", "/v1/tokens/admin", map[string]string{"Authorization": "Bearer " + owner}, ""})
	if r.status != 403 || !strings.Contains(r.body, "MAILKEEP-ROLE") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestAdminToken is where the first token comes from, over several starts.
func TestAdminToken(t *testing.T) {
	c := config(t)
	c.AdminToken = secret.Text{}
	path := filepath.Join(c.DataDir, app.AdminTokenFile)
	works := func(s *service, token string) bool {
		r := s.send(t, s.client(http1), raw{"GET", "/v1/tokens", map[string]string{"Authorization": "Bearer " + token}, ""})
		return r.status == 200
	}
	restart := func(s *service, c app.Config) *service {
		t.Helper()
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		return start(t, c)
	}

	s := start(t, c)
	first := s.NewAdminToken.Reveal()
	kept, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(kept)) != first || !works(s, first) {
		t.Fatalf("first start: made %q, kept %q, %v", first, kept, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
	}
	if strings.Contains(s.log.String(), first) {
		t.Error("the token is in the log")
	}
	s = restart(s, c)
	if !s.NewAdminToken.Empty() || !works(s, first) {
		t.Error("the second start makes another token, or the first has stopped working")
	}
	c.AdminToken = secret.New(adminToken)
	s = restart(s, c)
	if !works(s, adminToken) || works(s, first) {
		t.Error("a chosen token does not take the place of the made one")
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for _, weak := range []string{"short", strings.Repeat("x", 31), strings.Repeat("é", 32), strings.Repeat("x", 32) + "\n", "eyJ" + strings.Repeat("x", 32) + ".x.x"} {
		c.AdminToken = secret.New(weak)
		if _, err := app.Open(t.Context(), c); err == nil || strings.Contains(err.Error(), weak) {
			t.Errorf("with the token %q: %v", weak, err)
		}
	}
}

// TestCORS is what browsers are told, on good and bad paths, with and without a token.
func TestCORS(t *testing.T) {
	anyone, narrow := start(t, config(t)), func() *service {
		c := config(t)
		c.CORSOrigins = []string{"https://console.example"}
		return start(t, c)
	}()
	for _, c := range []struct {
		s            *service
		origin, want string
	}{
		{anyone, "https://anywhere.example", "*"},
		{narrow, "https://console.example", "https://console.example"},
		{narrow, "https://elsewhere.example", ""},
	} {
		for _, path := range []string{"/admin/v1/smtp/1/password", "/zitadel.admin.v1.AdminService/GetEmailProvider", "/nothing", "/v1/tokens"} {
			preflight := c.s.send(t, c.s.client(http1), raw{"OPTIONS", path, map[string]string{
				"Authorization": "", "Origin": c.origin, "Access-Control-Request-Method": "PUT",
				"Access-Control-Request-Headers": "authorization,connect-protocol-version,connect-timeout-ms,content-type,grpc-timeout,x-grpc-web,x-user-agent,x-zitadel-orgid",
			}, ""})
			if preflight.status != 204 || preflight.header.Get("Access-Control-Allow-Origin") != c.want {
				t.Errorf("preflight of %s from %s: %d %v", path, c.origin, preflight.status, preflight.header)
			}
			if c.want != "" && !strings.Contains(preflight.header.Get("Access-Control-Allow-Headers"), "x-zitadel-orgid") {
				t.Errorf("preflight allows the headers %q", preflight.header.Get("Access-Control-Allow-Headers"))
			}
			call := c.s.send(t, c.s.client(http1), raw{"PUT", path, map[string]string{"Authorization": "", "Origin": c.origin}, "{}"})
			if got := call.header.Get("Access-Control-Allow-Origin"); got != c.want || call.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("PUT %s from %s: %d %v", path, c.origin, call.status, call.header)
			}
			exposed := strings.ToLower(call.header.Get("Access-Control-Expose-Headers"))
			for _, name := range []string{"grpc-status", "grpc-message", "grpc-status-details-bin", "deprecation", "link", "sunset"} {
				if c.want != "" && !strings.Contains(exposed, name) {
					t.Errorf("%s is not exposed: %s", name, exposed)
				}
			}
		}
	}
}

// TestAccessLog wants one line for each call, with what an operator looks for and nothing secret.
func TestAccessLog(t *testing.T) {
	s := start(t, config(t))
	for _, w := range append(s.wires(http1), s.wires(http2)...) {
		before := strings.Count(s.log.String(), "\n")
		m := methods()["UpdateEmailProviderSMTPPassword"]
		a := w.call(t, adminToken, m, message(t, "zitadel.admin.v1.UpdateEmailProviderSMTPPasswordRequest", `{"id":"1","password":"c4n4ry"}`))
		lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")[before:]
		if len(lines) != 1 {
			t.Fatalf("%s: %d lines: %v", w.name, len(lines), lines)
		}
		protocol, _, _ := strings.Cut(strings.Split(w.name, "/")[0], "+")
		protocol, _, _ = strings.Cut(protocol, "-text")
		protocol, _, _ = strings.Cut(protocol, " ")
		for _, want := range []string{
			"msg=call", "protocol=" + protocol + " ", "method=/zitadel.admin.v1.AdminService/UpdateEmailProviderSMTPPassword",
			"caller=admin", "instance=default", "code=not_found", "error_id=COMMAND-rDHzqjGuKQ", "duration=",
			"request_id=" + a.header.Get("X-Request-Id"),
		} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("%s: no %s in %s", w.name, want, lines[0])
			}
		}
	}
	s.send(t, s.client(http1), raw{verb: "GET", path: "/nothing?token=" + adminToken})
	if log := s.log.String(); !strings.Contains(log, "status=404") || strings.Contains(log, "c4n4ry") || strings.Contains(log, adminToken) {
		t.Errorf("log:\n%s", log)
	}
}

// TestDeprecatedUses is what an operator sees before a cut-over, and the cut-over test itself.
func TestDeprecatedUses(t *testing.T) {
	c := config(t)
	c.Sunset = time.Date(2027, 12, 31, 0, 0, 0, 0, time.UTC)
	s := start(t, c)
	sender, _ := s.createToken(t, `{"name":"sender","roles":["MESSAGE_SENDER"]}`)
	for _, w := range append(s.wires(http1), s.wires(http2)...) {
		a := w.call(t, adminToken, methods()["GetSMTPConfig"], message(t, "zitadel.admin.v1.GetSMTPConfigRequest", "{}"))
		if got := a.header.Get("Sunset"); got != "Fri, 31 Dec 2027 00:00:00 GMT" {
			t.Errorf("%s: Sunset: %q", w.name, got)
		}
		for _, token := range []string{"made.up", sender} { // who may not call it does not count
			w.call(t, token, methods()["GetSMTPConfig"], message(t, "zitadel.admin.v1.GetSMTPConfigRequest", "{}"))
		}
	}
	r := s.send(t, s.client(http1), raw{"GET", "/admin/v1/smtp", map[string]string{"User-Agent": "terraform/1.0"}, ""})
	calls := len(s.wires(http1)) + len(s.wires(http2)) + 1
	if r.header.Get("Link") != `</admin/v1/email>; rel="successor-version"` {
		t.Errorf("Link: %s", r.header.Get("Link"))
	}
	uses := s.send(t, s.client(http1), raw{verb: "GET", path: "/v1/deprecated-uses"}).body
	for _, want := range []string{
		fmt.Sprintf(`"GetSMTPConfig":"%d"`, calls), `"ListSMTPConfigs":"0"`,
		`"method":"GetSMTPConfig","successor":"GetEmailProvider","caller":"admin","userAgent":"terraform/1.0","calls":"1"`,
	} {
		if !strings.Contains(uses, want) {
			t.Errorf("no %s in %s", want, uses)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	c.RefuseDeprecated = true
	s = start(t, c)
	again := s.send(t, s.client(http1), raw{verb: "GET", path: "/v1/deprecated-uses"}).body
	if !strings.Contains(again, fmt.Sprintf(`"GetSMTPConfig":"%d"`, calls)) {
		t.Errorf("uses are forgotten over a restart: %s", again)
	}
	for _, w := range append(s.wires(http1), s.wires(http2)...) {
		a := w.call(t, adminToken, methods()["GetSMTPConfig"], message(t, "zitadel.admin.v1.GetSMTPConfigRequest", "{}"))
		if a.code != connect.CodeUnimplemented || !strings.Contains(a.message, "GetEmailProvider") {
			t.Errorf("%s: %v", w.name, a)
		}
	}
}
