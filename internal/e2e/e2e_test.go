//go:build e2e

// Package e2e runs clients as they are published against the mailkeep binary: @zitadel/client in
// Node, web clients in Chromium on a page of another origin, and buf curl through reflection.
//
// It needs Node 20.11 or newer with npm, and Chromium at /usr/bin/chromium (apt-get install chromium):
//
//	bash internal/e2e/setup.sh
//	go test -tags e2e ./internal/e2e/
//
// The scripts check what the clients are told. What reached the mail server and the service's log
// is checked here, independently of them.
package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const procedures = "/zitadel.admin.v1.AdminService/"

func TestZitadelClient(t *testing.T) {
	mail := startMail(t)
	s := startService(t, mail)
	runNode(t, "zitadel.test.js", s.env()...)

	var want []string
	for _, user := range []string{"gRPC.SMTPConfig", "gRPC.EmailProvider", "gRPC-Web.SMTPConfig", "gRPC-Web.EmailProvider"} {
		want = append(want, user+" 1 sent", user+" 2 sent", user+" 2 refused", user+" 3 sent")
	}
	mail.expect(t, want)
}

func TestOtherOrigin(t *testing.T) {
	mail := startMail(t)
	s := startService(t, mail)
	page := servePage(t)
	runNode(t, "browser.test.js", append(s.env(), "PAGE="+page)...)

	var want []string
	for _, user := range []string{"connect-web.gRPC-Web", "connect-web.Connect", "grpc-web.binary", "grpc-web.text", "fetch"} {
		want = append(want, user+" 1 sent", user+" 2 sent", user+" 3 sent")
	}
	mail.expect(t, want)

	s.stop()
	if diff := cmp.Diff(wantPreflights(), preflights(s.log())); diff != "" {
		t.Errorf("preflights (-want +got):\n%s", diff)
	}
}

// wantPreflights has one for each path and page; a page asks again only when the answer is too old.
// Each client has a page for what succeeds, and one for what is refused.
func wantPreflights() map[string]int {
	const rpcClients = 4
	return map[string]int{
		procedures + "AddSMTPConfig":                   rpcClients,
		procedures + "GetSMTPConfigById":               rpcClients,
		procedures + "TestSMTPConfigById":              rpcClients,
		procedures + "TestEmailProviderSMTPById":       rpcClients,
		procedures + "UpdateSMTPConfigPassword":        2 * rpcClients,
		procedures + "UpdateEmailProviderSMTPPassword": 2 * rpcClients,
		"/admin/v1/smtp":                               1,
		"/admin/v1/smtp/{id}":                          1,
		"/admin/v1/smtp/{id}/_test":                    1,
		"/admin/v1/email/smtp/{id}/_test":              1,
		"/admin/v1/smtp/{id}/password":                 2,
		"/admin/v1/email/smtp/{id}/password":           2,
	}
}

// A page whose origin is not among those named is refused by the browser, which is the proof that
// the calls in TestOtherOrigin were subject to CORS at all.
func TestRefusedOrigin(t *testing.T) {
	mail := startMail(t)
	allowed, refused := servePage(t), servePage(t)
	s := startService(t, mail, "--cors-origin", "https://elsewhere.example", "--cors-origin", allowed)
	runNode(t, "refused.test.js", append(s.env(), "PAGE="+allowed, "REFUSED_PAGE="+refused)...)

	mail.expect(t, []string{"allowed 1 sent", "allowed 1 sent"})
	s.stop()
	log := s.log()
	wantPreflights := map[string]int{
		procedures + "AddSMTPConfig": 1, procedures + "TestSMTPConfigById": 1, // of the allowed page
		procedures + "UpdateSMTPConfigPassword": 4, "/admin/v1/smtp/{id}/password": 1,
	}
	if diff := cmp.Diff(wantPreflights, preflights(log)); diff != "" {
		t.Errorf("preflights (-want +got):\n%s", diff)
	}
	for _, line := range log {
		if strings.HasSuffix(line.Method, "UpdateSMTPConfigPassword") {
			t.Errorf("a call of the refused origin reached the service: %+v", line)
		}
	}
}

func TestBufCurl(t *testing.T) {
	for _, reflection := range []string{"grpc-v1", "grpc-v1alpha"} {
		t.Run(reflection, func(t *testing.T) {
			mail := startMail(t)
			testBufCurl(t, curl{service: startService(t, mail), reflection: reflection}, mail)
		})
	}
}

func testBufCurl(t *testing.T, c curl, mail *mailServer) {
	services := strings.Fields(c.run(t, "", "", "--list-services"))
	if want := []string{
		"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		"mailkeep.v1.AuditService", "mailkeep.v1.DeprecationService", "mailkeep.v1.InstanceService", "mailkeep.v1.KeyService", "mailkeep.v1.MessageService", "mailkeep.v1.ProviderService",
		"mailkeep.v1.TokenService", "zitadel.admin.v1.AdminService",
	}; !cmp.Equal(want, services) {
		t.Errorf("services (-want +got):\n%s", cmp.Diff(want, services))
	}
	methods := strings.Fields(c.run(t, "", "", "--list-methods"))
	if !slices.Contains(methods, "zitadel.admin.v1.AdminService/UpdateSMTPConfigPassword") {
		t.Errorf("UpdateSMTPConfigPassword is not in the list: %s", methods)
	}

	id := c.call(t, "AddSMTPConfig", map[string]any{
		"sender_address": "from@example.com", "sender_name": "From", "tls": true, "host": mail.Addr(),
		"user": "buf", "password": mail.newPassword("buf"),
	})["id"]
	for _, version := range []string{"1", "2"} {
		if version == "2" {
			c.call(t, "UpdateSMTPConfigPassword", map[string]any{"id": id, "password": mail.newPassword("buf")})
		}
		c.call(t, "TestSMTPConfigById", map[string]any{"id": id, "receiver_address": "buf.v" + version + "@example.com"})
	}
	c.call(t, "ActivateSMTPConfig", map[string]any{"id": id})
	const messages = "mailkeep.v1.MessageService/"
	sent := c.call(t, messages+"SendMessage", map[string]any{"to": []string{"buf.v2@example.com"}, "text": "x"})
	last, _ := c.call(t, messages+"WatchMessages", map[string]any{"id": sent["id"]})["message"].(map[string]any)
	if last["state"] != "MESSAGE_STATE_DELIVERED" || last["credentialVersion"] != "2" || last["id"] != sent["id"] {
		t.Errorf("the mail %v ends as %v", sent, last)
	}
	mail.expect(t, []string{"buf 1 sent", "buf 2 sent", "buf 2 sent"})

	const unknown = `{"id":"123456789012345678","password":"x"}`
	c.status = 5 << 3 // NOT_FOUND
	refusal := c.run(t, "zitadel.admin.v1.AdminService/UpdateSMTPConfigPassword", unknown)
	for _, want := range []string{`"not_found"`, "(COMMAND-rDHzqjGuKQ)", `"zitadel.v1.ErrorDetail"`} {
		if !strings.Contains(refusal, want) {
			t.Errorf("the refusal has no %s: %s", want, refusal)
		}
	}
}
