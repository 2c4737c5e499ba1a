package app_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

// TestClientSecret stores a wrong client secret and then the right one: what the token endpoint says of the
// first is in the mail's record, told apart from what a mail server says, and the second is used at once.
func TestClientSecret(t *testing.T) {
	const right, wrong, bearer = "right-c4n4ry", "wrong-c4n4ry", "bearer-c4n4ry"
	inbox, err := smtptest.Start(smtptest.Options{Mechanisms: []string{"XOAUTH2"}, DemandAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inbox.Close() })
	inbox.SetPassword(user, bearer)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, key, _ := r.BasicAuth(); key != right {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":"invalid_client","error_description":%q}`, key)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"bearer","expires_in":"3600"}`, bearer)
	}))
	t.Cleanup(endpoint.Close)
	s := start(t, config(t))
	r := &mailRun{t: t, s: s, wire: s.wires(http1)[0], inbox: inbox}
	settings := func(key string) string {
		return `"senderAddress":"sender@example.com","senderName":"S","host":"` + inbox.Addr() + `","user":"` + user + `",` +
			`"xoauth2":{"tokenEndpoint":"` + endpoint.URL + `","clientCredentials":{"clientId":"c","clientSecret":"` + key + `"}}`
	}
	r.provider, _ = r.call("AddEmailProviderSMTP", "{"+settings(wrong)+"}").at("id").(string)
	if a := r.try("TestEmailProviderSMTPById", `{"id":"$provider","receiverAddress":"r@example.com"}`); a.id != "EMAIL-av88SB" ||
		!strings.Contains(a.message, "step token: 401 from the token endpoint invalid_client") {
		t.Errorf("%v", a)
	}
	r.call("ActivateEmailProvider", `{"id":"$provider"}`)
	id, _ := r.call("SendMessage", `{"to":["r@example.com"],"text":"x"}`).at("id").(string)
	var attempt fields
	eventually(t, 10*time.Second, "tried", func() bool {
		attempts, _ := r.call("GetMessage", `{"id":"`+id+`"}`).at("message", "attempts").([]any)
		if len(attempts) > 0 {
			attempt = attempts[0].(map[string]any)
		}
		return len(attempts) > 0
	})
	if attempt.at("step") != "token" || fmt.Sprint(attempt.at("code")) != "401" || attempt.at("text") != "from the token endpoint invalid_client" {
		t.Errorf("%v", attempt)
	}
	r.call("UpdateEmailProviderSMTP", `{"id":"$provider",`+settings(right)+"}")
	r.until(id, "MESSAGE_STATE_DELIVERED")
	for _, canary := range []string{right, wrong, bearer} {
		if strings.Contains(s.log.String(), canary) {
			t.Errorf("%s is in the log", canary)
		}
	}
}
