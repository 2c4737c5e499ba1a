package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

// mailRun is the life of mails through one provider over one wire.
type mailRun struct {
	t        *testing.T
	s        *service
	wire     wire
	inbox    *smtptest.Server
	provider string
	mails    int // at the inbox
}

// call makes a call that must succeed.
func (r *mailRun) call(name, body string) fields {
	r.t.Helper()
	a := r.try(name, body)
	if a.code != 0 {
		r.t.Fatalf("%s %s: %v", name, body, a)
	}
	return a.fields
}

// refused makes a call that must fail with a code and an id.
func (r *mailRun) refused(code connect.Code, id, name, body string) answer {
	r.t.Helper()
	a := r.try(name, body)
	if a.code != code || a.id != id || a.id != "" && !strings.HasSuffix(a.message, " ("+id+")") {
		r.t.Errorf("%s %s: %v, want %s with %s", name, body, a, code, id)
	}
	return a
}

func (r *mailRun) try(name, body string) answer {
	r.t.Helper()
	m := methods()[name]
	body = strings.ReplaceAll(body, "$provider", r.provider)
	return r.wire.call(r.t, adminToken, m, message(r.t, string(m.Descriptor.Input().FullName()), body))
}

// send sends a mail and waits until it has arrived; it returns its record.
func (r *mailRun) send(body string) fields {
	r.t.Helper()
	id, _ := r.call("SendMessage", body).at("id").(string)
	r.mails++
	if _, err := r.inbox.Wait(r.t.Context(), r.mails); err != nil {
		r.t.Fatal(err)
	}
	return r.until(id, "MESSAGE_STATE_DELIVERED")
}

// until waits until a mail is in a state.
func (r *mailRun) until(id, state string) fields {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		f := r.call("GetMessage", `{"id":"`+id+`"}`)
		if f.at("message", "state") == state {
			return f
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("mail is %v, want %s", f, state)
		}
	}
}

// version wants the last mail at the inbox and its record to have come with this version of the
// credential, which the inbox counts on its own.
func (r *mailRun) version(f fields, recorded, atInbox int) {
	r.t.Helper()
	attempts, _ := f.at("message", "attempts").([]any)
	if len(attempts) != 1 || fields(attempts[0].(map[string]any)).at("credentialVersion") != fmt.Sprint(recorded) {
		r.t.Errorf("attempts %v, want one with version %d", attempts, recorded)
	}
	mails := r.inbox.Mails()
	if last := mails[len(mails)-1]; last.Version != atInbox {
		r.t.Errorf("the inbox saw version %d, want %d", last.Version, atInbox)
	}
}

// TestMessages is the life of mails, and of the password they are sent with, over every protocol.
func TestMessages(t *testing.T) {
	c := config(t)
	c.KeepPrevious = time.Hour
	s := start(t, c)
	for _, v := range []httpVersion{http1, http2} {
		for _, w := range s.wires(v) {
			t.Run(w.name, func(t *testing.T) {
				r := &mailRun{t: t, s: s, wire: w, inbox: inbox(t, "p1")}
				r.refused(connect.CodeFailedPrecondition, "MAILKEEP-NOACTIVE", "SendMessage", `{"to":["r@example.com"],"text":"x"}`)
				r.provider = s.addProvider(t, r.inbox.Addr(), "p1")
				r.call("ActivateEmailProvider", `{"id":"$provider"}`)
				r.mailsAreSent()
				r.passwordsAreRotated()
				r.mailsAreFound()
				r.call("RemoveEmailProvider", `{"id":"$provider"}`)
			})
		}
	}
}

func (r *mailRun) mailsAreSent() {
	t := r.t
	f := r.send(`{"to":["r@example.com"],"cc":["c@example.com"],"bcc":["Blind@example.com"],"subject":"Grüße","text":"t","html":"<p>h","tag":"` +
		r.wire.name + `","headers":[{"name":"X-Campaign","value":"spring"}],"attachments":[{"name":"a.txt","data":"YQ=="}]}`)
	r.version(f, 1, 1)
	id, _ := f.at("message", "id").(string)
	mails := r.inbox.Mails()
	mail := mails[len(mails)-1]
	if fmt.Sprint(mail.To) != "[r@example.com c@example.com Blind@example.com]" || strings.Contains(strings.ToLower(string(mail.Data)), "blind") {
		t.Errorf("recipients %v of\n%s", mail.To, mail.Data)
	}
	for _, want := range []string{
		"\r\nTo: <r@example.com>\r\n", "\r\nCc: <c@example.com>\r\n", "X-Campaign: spring\r\n", "Message-ID: <" + id + "@example.com>\r\n", "multipart/mixed", "a.txt",
	} {
		if !strings.Contains(string(mail.Data), want) {
			t.Errorf("no %q in\n%s", want, mail.Data)
		}
	}
	r.refused(connect.CodeNotFound, "MAILKEEP-ERASED", "GetMessageContent", `{"id":"`+id+`"}`)
	r.refused(connect.CodeFailedPrecondition, "MAILKEEP-STATE", "CancelMessage", `{"id":"`+id+`"}`)
	r.refused(connect.CodeFailedPrecondition, "MAILKEEP-STATE", "RetryMessage", `{"id":"`+id+`"}`)
	for _, name := range []string{"GetMessage", "GetMessageContent", "CancelMessage", "RetryMessage"} {
		r.refused(connect.CodeNotFound, "MAILKEEP-MESSAGE", name, `{"id":"01234567890123456789012345"}`)
	}
	r.refused(connect.CodeInvalidArgument, "MAILKEEP-VALUE", "SendMessage", `{"text":"x"}`)
	r.refused(connect.CodeInvalidArgument, "MAILKEEP-VALUE", "SendMessage", `{"to":["a@b.c> NOTIFY=NEVER"],"text":"x"}`)

	key := fmt.Sprintf(`"idempotencyKey":"%s %d"`, r.wire.name, time.Now().UnixNano())
	first := r.send(`{"to":["r@example.com"],"text":"once",` + key + `}`)
	again := r.call("SendMessage", `{"to":["r@example.com"],"text":"once",`+key+`}`)
	if again.at("id") != first.at("message", "id") {
		t.Errorf("the same mail again is %v, was %v", again, first)
	}
	r.refused(connect.CodeAlreadyExists, "MAILKEEP-IDEMPOTENCY", "SendMessage", `{"to":["r@example.com"],"text":"twice",`+key+`}`)
}

func (r *mailRun) passwordsAreRotated() {
	t := r.t
	refusal := r.refused(connect.CodeFailedPrecondition, "EMAIL-s9kfs", "RotatePassword", `{"id":"$provider","password":"wrong-horse"}`)
	if !strings.Contains(refusal.message, "535") || strings.Contains(refusal.message, "horse") {
		t.Errorf("refusal %q", refusal.message)
	}
	r.version(r.send(`{"to":["r@example.com"],"text":"x"}`), 1, 1)

	r.inbox.SetPassword(user, "p2")
	f := r.call("RotatePassword", `{"id":"$provider","password":"p2"}`)
	if f.at("credentialVersion") != "2" || f.at("report", "passed") != true {
		t.Errorf("rotated to %v", f)
	}
	var steps []string
	all, _ := f.at("report", "steps").([]any)
	for _, s := range all {
		steps = append(steps, fmt.Sprint(s.(map[string]any)["step"]))
	}
	if got := strings.Join(steps, " "); got != "dns tcp greeting ehlo auth" {
		t.Errorf("steps %s", got)
	}
	r.version(r.send(`{"to":["r@example.com"],"text":"x"}`), 2, 2)

	status := r.call("GetProviderStatus", `{"id":"$provider"}`)
	if status.at("status", "credentialVersion") != "2" || status.at("status", "current", "mails") != "1" || status.at("status", "active") != true ||
		status.at("status", "rollbackVersion") != "1" || status.at("status", "breaker") != "BREAKER_STATE_CLOSED" || status.at("status", "current", "firstUsed") == nil {
		t.Errorf("status %v", status)
	}
	r.refused(connect.CodeFailedPrecondition, "EMAIL-s9kfs", "RollbackPassword", `{"id":"$provider"}`)
	r.inbox.SetPassword(user, "p1")
	if f := r.call("RollbackPassword", `{"id":"$provider"}`); f.at("credentialVersion") != "3" {
		t.Errorf("rolled back to %v", f)
	}
	r.version(r.send(`{"to":["r@example.com"],"text":"x"}`), 3, 3)

	if f := r.call("VerifyProvider", `{"id":"$provider","recipient":"r@example.com"}`); f.at("report", "passed") != true {
		t.Errorf("verified: %v", f)
	}
	inline := fmt.Sprintf(`"smtp":{"host":%q,"user":%q,"password":"wrong-horse"}`, r.inbox.Addr(), user)
	for _, f := range []fields{r.call("VerifyProvider", `{"id":"$provider",`+inline+`}`), r.call("VerifySettings", `{`+inline+`}`)} {
		if f.at("report", "passed") == true || !strings.Contains(fmt.Sprint(f), "535") || strings.Contains(fmt.Sprint(f), "horse") {
			t.Errorf("verified a wrong password: %v", f)
		}
	}
	if got := len(r.inbox.Mails()); got != r.mails {
		t.Errorf("verifying has sent %d mails", got-r.mails)
	}
	var types []string
	events, _ := r.call("ListProviderEvents", `{"id":"$provider"}`).at("events").([]any)
	for _, e := range events {
		types = append(types, strings.TrimPrefix(fmt.Sprint(e.(map[string]any)["type"]), "provider."))
	}
	if got := strings.Join(types, " "); got != "added activated password_changed password_rolled_back" {
		t.Errorf("events %s", got)
	}
	for _, name := range []string{"GetProviderStatus", "ListProviderEvents", "VerifyProvider", "RollbackPassword"} {
		r.refused(connect.CodeNotFound, "QUERY-fwofw", name, `{"id":"123456789012345678"}`)
	}
	r.refused(connect.CodeNotFound, "QUERY-fwofw", "RotatePassword", `{"id":"123456789012345678","password":"x"}`)
}

func (r *mailRun) mailsAreFound() {
	t := r.t
	for _, c := range []struct {
		filter string
		want   int
	}{
		{`"providerId":"$provider"`, r.mails},
		{`"providerId":"$provider","tag":"` + r.wire.name + `"`, 1},
		{`"providerId":"$provider","recipient":"bLind@example.com"`, 1},
		{`"providerId":"$provider","states":["MESSAGE_STATE_DELIVERED","MESSAGE_STATE_FAILED"]`, r.mails},
		{`"providerId":"$provider","states":["MESSAGE_STATE_QUEUED"]`, 0},
		{`"providerId":"$provider","createdFrom":"2100-01-01T00:00:00Z"`, 0},
		{`"providerId":"$provider","createdBefore":"2100-01-01T00:00:00Z"`, r.mails},
	} {
		page, _ := r.call("ListMessages", `{`+c.filter+`}`).at("messages").([]any)
		if len(page) != c.want {
			t.Errorf("%s: %d mails, want %d", c.filter, len(page), c.want)
		}
	}
	seen := map[any]bool{}
	for token, pages := "", 0; ; pages++ {
		f := r.call("ListMessages", `{"providerId":"$provider","pageSize":2,"pageToken":"`+token+`"}`)
		page, _ := f.at("messages").([]any)
		for _, m := range page {
			seen[m.(map[string]any)["id"]] = true
		}
		if token, _ = f.at("nextPageToken").(string); token == "" || pages > 10 {
			break
		}
	}
	if len(seen) != r.mails {
		t.Errorf("pages have %d mails, want %d", len(seen), r.mails)
	}
	r.refused(connect.CodeInvalidArgument, "MAILKEEP-VALUE", "ListMessages", `{"pageSize":1001}`)
}
