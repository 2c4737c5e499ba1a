package app_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// caller changes what it has made itself, one call after another, and writes down what it hears.
type caller struct {
	*ledger
	name  string
	inbox *smtptest.Server
	given int // values

	providers, tokens []string
}

// told is what a call is answered.
type told struct {
	ID      string
	Details struct {
		Sequence uint64 `json:",string"`
	}
	Token        struct{ ID string }
	Secret       string
	PrimaryKeyID uint32
}

// outcome is what a caller knows of its call.
type outcome int

const (
	made    outcome = iota
	notMade         // for sure
	unknown
)

// act makes a call. It reports whether there was an answer.
func (o *caller) act(c *child) bool {
	switch r := rand.N(100); {
	case len(o.providers) == 0, r < 10 && len(o.providers) < 4:
		return o.add(c)
	case r < 25:
		return o.change(c, emailprovider.EventUpdated, http.MethodPut, "/admin/v1/email/smtp/%s")
	case r < 40:
		return o.change(c, emailprovider.EventPasswordChanged, http.MethodPut, "/admin/v1/email/smtp/%s/password")
	case r < 50:
		return o.change(c, emailprovider.EventActivated, http.MethodPost, "/admin/v1/email/%s/_activate")
	case r < 57:
		return o.change(c, emailprovider.EventDeactivated, http.MethodPost, "/admin/v1/email/%s/_deactivate")
	case r < 62:
		return o.change(c, emailprovider.EventRemoved, http.MethodDelete, "/admin/v1/email/%s")
	case r < 70:
		return o.createToken(c)
	case r < 75 && len(o.tokens) > 0:
		return o.revokeToken(c)
	case r == 75:
		return o.rotateKeys(c)
	}
	return o.sendMail(c)
}

// value returns one that was never given before. As a password it is good at the inbox.
func (o *caller) value() string {
	o.given++
	value := fmt.Sprintf("%s %d", o.name, o.given)
	o.inbox.AllowPassword(user, value)
	return value
}

var numbers = regexp.MustCompile(`\d+`)

// call makes a call; heard is whether there was an answer.
func (o *caller) call(c *child, verb, path, body string) (answer told, result outcome, heard bool) {
	began := time.Now()
	status, text, err := c.call(verb, path, body)
	if err != nil {
		return answer, unknown, false
	}
	o.mu.Lock()
	o.slowest = max(o.slowest, time.Since(began))
	o.mu.Unlock()
	if status != http.StatusOK {
		return answer, o.refuse(verb+" "+path, status, text), true
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		o.complain("%s %s: %s: %v", verb, path, text, err)
	}
	if o.closed() {
		return answer, unknown, true
	}
	return answer, made, true
}

// refuse judges a refusal.
func (o *caller) refuse(what string, status int, text string) outcome {
	o.mu.Lock()
	o.refusals[numbers.ReplaceAllString(text, "")]++
	store := strings.Contains(text, "(MAILKEEP-STORE)")
	switch {
	case store && status == http.StatusTooManyRequests:
		o.exhausted++
	case store && status == http.StatusServiceUnavailable:
		o.unwritten++
	}
	o.mu.Unlock()
	open := strings.Contains(text, "(MAILKEEP-OUTCOME)") || strings.Contains(text, "(MAILKEEP-RESEAL)")
	switch status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict:
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if !store && !open {
			o.complain("%s: %d %s", what, status, text)
		}
	default:
		o.complain("%s: %d %s", what, status, text)
		open = true
	}
	if open {
		return unknown
	}
	return notMade
}

func (o *caller) settings(value string) string {
	return fmt.Sprintf(`{"senderAddress":"s@example.com","senderName":"S","host":%q,"user":%q,"description":%q,"password":%q}`,
		o.inbox.Addr(), user, value, value)
}

func (o *caller) add(c *child) bool {
	value := o.value()
	answer, result, heard := o.call(c, http.MethodPost, "/admin/v1/email/smtp", o.settings(value))
	o.record(answer, result, change{emailprovider.EventAdded, answer.ID, []string{value}})
	if result == made {
		o.providers = append(o.providers, answer.ID)
	}
	return heard
}

// change changes one of the caller's providers.
func (o *caller) change(c *child, kind emailprovider.EventType, verb, path string) bool {
	i := rand.N(len(o.providers))
	id, value, body := o.providers[i], "", ""
	switch kind {
	case emailprovider.EventUpdated:
		value = o.value()
		body = strings.Replace(o.settings(value), `,"password":`, `,"ignored":`, 1)
	case emailprovider.EventPasswordChanged:
		value = o.value()
		body = fmt.Sprintf(`{"password":%q}`, value)
	}
	answer, result, heard := o.call(c, verb, fmt.Sprintf(path, id), body)
	o.record(answer, result, change{kind, id, []string{value}})
	if result == made && kind == emailprovider.EventRemoved {
		o.providers = append(o.providers[:i], o.providers[i+1:]...)
	}
	return heard
}

func (o *caller) createToken(c *child) bool {
	o.given++
	name := fmt.Sprintf("%s %d", o.name, o.given)
	answer, result, heard := o.call(c, http.MethodPost, "/v1/tokens", fmt.Sprintf(`{"name":%q,"roles":["IAM_OWNER_VIEWER"]}`, name))
	if result == made {
		o.tokens = append(o.tokens, answer.Token.ID)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.calls++
		o.ledger.tokens[answer.Token.ID] = &promisedToken{name: name, secret: answer.Secret}
	}
	return heard
}

func (o *caller) revokeToken(c *child) bool {
	id := o.tokens[0]
	_, result, heard := o.call(c, http.MethodDelete, "/v1/tokens/"+id, "")
	o.mu.Lock()
	defer o.mu.Unlock()
	token := o.ledger.tokens[id]
	token.revoked, token.unsure = result == made, token.unsure || result == unknown
	if result == made {
		o.calls++
		o.tokens = o.tokens[1:]
	}
	return heard
}

// rotateKeys may have made a key also when it fails. Only one does at a time, so that it is known which is
// the newest.
func (o *caller) rotateKeys(c *child) bool {
	if !o.turn.TryLock() {
		return o.sendMail(c)
	}
	defer o.turn.Unlock()
	answer, result, heard := o.call(c, http.MethodPost, "/v1/keys/_rotate", "")
	o.mu.Lock()
	defer o.mu.Unlock()
	if result == made {
		o.calls++
		o.keys = append(o.keys, answer.PrimaryKeyID)
	}
	o.rotating = o.rotating || result != made
	return heard
}

func (o *caller) sendMail(c *child) bool {
	answer, result, heard := o.call(c, http.MethodPost, "/v1/messages", `{"to":["r@example.com"],"text":"x"}`)
	if result == made {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.calls++
		o.mails[answer.ID] = true
	}
	return heard
}
