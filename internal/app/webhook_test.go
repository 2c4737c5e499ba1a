package app_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// signed reports whether a POST has a good signature, as its documentation has receivers check it.
func signed(key, header string, body []byte) bool {
	stamp, signature, _ := strings.Cut(strings.TrimPrefix(header, "t="), ",v1=")
	unix, err := strconv.ParseInt(stamp, 10, 64)
	given, err2 := hex.DecodeString(signature)
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = fmt.Fprintf(mac, "%s.%s", stamp, body)
	return err == nil && err2 == nil && time.Since(time.Unix(unix, 0)).Abs() < 5*time.Minute && hmac.Equal(given, mac.Sum(nil))
}

// posted is what a webhook was told.
type posted struct {
	signature string
	body      []byte
	id        string // Message-ID
	recipient string
	subject   string
}

// hook is a webhook that answers with a status of the test's.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []posted
}

func newHook(t *testing.T) *hook {
	h := &hook{status: http.StatusOK}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

// ServeHTTP implements http.Handler.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var notice struct {
		Context struct {
			Recipient string `json:"recipientEmailAddress"`
		} `json:"contextInfo"`
		Template struct {
			Subject string `json:"subject"`
		} `json:"templateData"`
		Args struct {
			MessageID string `json:"messageId"`
		} `json:"args"`
	}
	_ = json.Unmarshal(body, &notice)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got = append(h.got, posted{
		r.Header.Get("ZITADEL-Signature"), body, notice.Args.MessageID, notice.Context.Recipient, notice.Template.Subject,
	})
	w.WriteHeader(h.status)
}

func (h *hook) answer(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

// all returns what has come so far.
func (h *hook) all() []posted {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]posted(nil), h.got...)
}

// hooked starts a service whose active provider is a webhook, and returns the provider's key.
func hooked(t *testing.T, wrap func(app.Store) app.Store) (r *mailRun, h *hook, key string) {
	h = newHook(t)
	c := config(t)
	c.WrapStore = wrap
	s := start(t, c)
	r = &mailRun{t: t, s: s, wire: s.wires(http1)[0]}
	f := r.call("AddEmailProviderHTTP", `{"endpoint":"`+h.URL+`","description":"the hook"}`)
	r.provider, _ = f.at("id").(string)
	key, _ = f.at("signingKey").(string)
	r.call("ActivateEmailProvider", `{"id":"$provider"}`)
	return r, h, key
}

// post sends a mail and returns its record after so many attempts.
func (r *mailRun) post(subject string, attempts int) (id string, f fields) {
	r.t.Helper()
	id, _ = r.call("SendMessage", `{"to":["r@example.com"],"subject":"`+subject+`","text":"x"}`).at("id").(string)
	return id, r.attempted(id, attempts)
}

func (r *mailRun) newKey(h *hook) (key string) {
	r.t.Helper()
	key, _ = r.call("UpdateEmailProviderHTTP", `{"id":"$provider","endpoint":"`+h.URL+`","expirationSigningKey":"0s"}`).at("signingKey").(string)
	return key
}

// wants a mail to be in a state after so many attempts.
func (r *mailRun) wants(f fields, state string, attempts int) {
	r.t.Helper()
	if f.at("message", "state") != "MESSAGE_STATE_"+state || f.at("message", "attemptCount") != float64(attempts) {
		r.t.Errorf("%v, want %s after %d attempts", f, state, attempts)
	}
}

func (r *mailRun) breaker(want string) {
	r.t.Helper()
	if got := r.call("GetProviderStatus", `{"id":"$provider"}`).at("status", "breaker"); got != "BREAKER_STATE_"+want {
		r.t.Errorf("breaker %v, want %s", got, want)
	}
}

// TestWebhook sends mails through a webhook that verifies them.
func TestWebhook(t *testing.T) {
	r, h, key := hooked(t, nil)
	_, f := r.post("first", 1)
	r.wants(f, "DELIVERED", 1)
	if got := h.all(); len(got) != 1 || !signed(key, got[0].signature, got[0].body) || got[0].recipient != "r@example.com" || got[0].subject != "first" {
		t.Fatalf("got %+v", got)
	}

	// A failure of the endpoint is tried again, as the same mail.
	h.answer(http.StatusInternalServerError)
	id, f := r.post("again", 1)
	r.wants(f, "QUEUED", 1)
	r.breaker("CLOSED")
	h.answer(http.StatusAccepted)
	r.call("UpdateEmailProviderHTTP", `{"id":"$provider","endpoint":"`+h.URL+`"}`) // ends the pause after a failure
	r.retry(id)
	r.wants(r.attempted(id, 2), "DELIVERED", 2)
	got := h.all()
	if len(got) != 3 || got[1].id != got[2].id || !strings.HasPrefix(got[1].id, id+"@") || !signed(key, got[1].signature, got[1].body) {
		t.Errorf("got %+v", got[1:])
	}

	// A refused signature holds mails back until there is a new key, which is used at once.
	h.answer(http.StatusUnauthorized)
	id, f = r.post("refused", 1)
	r.wants(f, "QUEUED", 1)
	r.breaker("OPEN")
	h.answer(http.StatusOK)
	fresh := r.newKey(h)
	if fresh == "" || fresh == key {
		t.Fatalf("the new key is %q", fresh)
	}
	_, f = r.post("fresh", 1)
	r.wants(f, "DELIVERED", 1)
	r.retry(id)
	r.wants(r.attempted(id, 2), "DELIVERED", 2)
	r.breaker("CLOSED")
	for _, p := range h.all()[4:] {
		if !signed(fresh, p.signature, p.body) || signed(key, p.signature, p.body) {
			t.Errorf("%s is not signed with the new key", p.subject)
		}
	}

	// A refusal of the mail is final.
	h.answer(http.StatusUnprocessableEntity)
	_, f = r.post("unwanted", 1)
	r.wants(f, "FAILED", 1)
	if reason, _ := f.at("message", "reason").(string); !strings.Contains(reason, "422") {
		t.Errorf("reason %q", reason)
	}
	if len(h.all()) != 7 {
		t.Errorf("%d POSTs, want 7", len(h.all()))
	}
}

// stale changes the key of a webhook n times, each time with a mail right after, and counts the mails
// that are signed with an earlier one.
func stale(t *testing.T, n int, wrap func(app.Store) app.Store) (stale int) {
	r, h, _ := hooked(t, wrap)
	for i := range n {
		key := r.newKey(h)
		r.post(strconv.Itoa(i), 1)
		got := h.all()
		if last := got[len(got)-1]; len(got) != i+1 || last.subject != strconv.Itoa(i) {
			t.Fatalf("%d POSTs, the last is %q, want %d", len(got), last.subject, i)
		} else if !signed(key, last.signature, last.body) {
			stale++
		}
	}
	return stale
}

// TestWebhookKeys wants the next mail to be signed with the key that was just returned.
func TestWebhookKeys(t *testing.T) {
	const keys = 200
	n := stale(t, keys, nil)
	t.Logf("REL webhook_keys keys=%d stale=%d", keys, n)
	if n > 0 {
		t.Errorf("%d mails were signed with a key that was replaced before they were sent", n)
	}
}

// lagging is a store whose claims know the provider as it was at the claim before.
type lagging struct {
	app.Store
	mu  sync.Mutex
	was emailprovider.Provider
}

func (l *lagging) Claim(ctx context.Context, c outbox.ClaimRequest) (outbox.Claim, error) {
	claim, err := l.Store.Claim(ctx, c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(claim.Mails) > 0 {
		if l.was.ID == "" {
			l.was = claim.Provider
		}
		claim.Provider, l.was = l.was, claim.Provider
	}
	return claim, err
}

// TestWebhookKeysAreMeasured sees that the test above would notice keys of before.
func TestWebhookKeysAreMeasured(t *testing.T) {
	if stale(t, 5, func(s app.Store) app.Store { return &lagging{Store: s} }) == 0 {
		t.Error("mails with a key that was replaced were not noticed")
	}
}
