package app_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

// generation is one of the two sets of methods for the same operations.
type generation struct {
	name       string
	methods    map[string]string // by operation
	deprecated bool
}

var generations = []generation{
	{"SMTPConfig", map[string]string{
		"active": "GetSMTPConfig", "get": "GetSMTPConfigById", "list": "ListSMTPConfigs", "add": "AddSMTPConfig",
		"update": "UpdateSMTPConfig", "password": "UpdateSMTPConfigPassword", "activate": "ActivateSMTPConfig",
		"deactivate": "DeactivateSMTPConfig", "remove": "RemoveSMTPConfig", "test": "TestSMTPConfigById",
		"test values": "TestSMTPConfig",
	}, true},
	{"EmailProvider", map[string]string{
		"active": "GetEmailProvider", "get": "GetEmailProviderById", "list": "ListEmailProviders", "add": "AddEmailProviderSMTP",
		"update": "UpdateEmailProviderSMTP", "password": "UpdateEmailProviderSMTPPassword", "activate": "ActivateEmailProvider",
		"deactivate": "DeactivateEmailProvider", "remove": "RemoveEmailProvider", "test": "TestEmailProviderSMTPById",
		"test values": "TestEmailProviderSMTP",
	}, false},
}

// setting returns a setting of a provider as this generation shows it.
func (g generation) setting(f fields, name string) any {
	if g.deprecated {
		return f.at("smtpConfig", name)
	}
	if v := f.at("config", name); v != nil {
		return v
	}
	return f.at("config", "smtp", name)
}

// run is one run of the scenario: one generation over one wire.
type run struct {
	t       *testing.T
	s       *service
	wire    wire
	gen     generation
	inbox   *smtptest.Server
	id      string // of the provider under test
	last    answer
	mails   int
	version int // of the password at the inbox
}

// step is one call of the scenario and what must come of it. In body, $id, $host and $password stand
// for the provider's id, the inbox's address and a password that differs in each run.
type step struct {
	what  string
	op    string
	body  string
	code  connect.Code // 0 for success
	id    string       // of the error
	check func(r *run)
	setup func(r *run)
}

const settings = `"senderAddress":"sender@example.com","senderName":"Sänder","host":"$host","user":"mailkeep"`

var scenario = []step{
	{what: "nothing is active", op: "active", code: connect.CodeNotFound, id: "QUERY-fwofw"},
	{what: "add", op: "add", body: `{` + settings + `,"password":"p1","description":"first","replyToAddress":"reply@example.com"}`, check: added},
	{what: "get by id", op: "get", body: `{"id":"$id"}`, check: shown("first", "INACTIVE")},
	{what: "still nothing is active", op: "active", code: connect.CodeNotFound, id: "QUERY-fwofw"},
	{what: "test an inactive one", op: "test", body: toReader, check: delivered},
	{what: "activate", op: "activate", body: `{"id":"$id"}`, check: detailed(1)},
	{what: "activate again", op: "activate", body: `{"id":"$id"}`, check: detailed(0)},
	{what: "get active", op: "active", check: shown("first", "ACTIVE")},

	{what: "a new password at the server only", op: "test", body: toReader, setup: rotateInbox,
		code: connect.CodeFailedPrecondition, id: "EMAIL-s9kfs", check: toldBy("auth", "535")},
	{what: "the new password", op: "password", body: `{"id":"$id","password":"$password"}`, check: detailed(1)},
	{what: "the next mail has it", op: "test", body: toReader, check: delivered},
	{what: "the same password again is a change", op: "password", body: `{"id":"$id","password":"$password"}`, check: detailed(1)},
	{what: "and works", op: "test", body: toReader, check: delivered},
	{what: "get shows no secret and the same state", op: "active", check: shown("first", "ACTIVE")},
	{what: "empty password", op: "password", body: `{"id":"$id"}`, code: connect.CodeInvalidArgument, id: "MAILKEEP-PASSWORD"},
	{what: "password of a made-up id", op: "password", body: `{"id":"123456789012345678","password":"x"}`, code: connect.CodeNotFound, id: "COMMAND-rDHzqjGuKQ"},

	{what: "update without password", op: "update", body: `{"id":"$id",` + settings + `,"description":"second"}`, check: detailed(1)},
	{what: "is a full replacement", op: "get", body: `{"id":"$id"}`, check: shown("second", "ACTIVE")},
	{what: "and keeps the password", op: "test", body: toReader, check: delivered},
	{what: "update that changes nothing", op: "update", body: `{"id":"$id",` + settings + `,"description":"second"}`, check: detailed(0)},
	{what: "update to another host without the password", op: "update", body: `{"id":"$id","senderAddress":"s@example.com","senderName":"S","host":"other.example.com:25","user":"mailkeep"}`,
		code: connect.CodeFailedPrecondition, id: "MAILKEEP-BIND"},
	{what: "update of the user without the password", op: "update", body: `{"id":"$id","senderAddress":"s@example.com","senderName":"S","host":"$host","user":"other"}`,
		code: connect.CodeFailedPrecondition, id: "MAILKEEP-BIND"},
	{what: "update with a wrong password", op: "update", body: `{"id":"$id",` + settings + `,"password":"wrong"}`, check: detailed(1)},
	{what: "which the next mail has", op: "test", body: toReader, code: connect.CodeFailedPrecondition, id: "EMAIL-s9kfs"},
	{what: "update with the password", op: "update", body: `{"id":"$id",` + settings + `,"password":"$password"}`, check: detailed(1)},
	{what: "which the next mail has again", op: "test", body: toReader, check: delivered},
	{what: "update with an empty sender", op: "update", body: `{"id":"$id","senderAddress":" ","senderName":"S","host":"$host"}`, code: connect.CodeInvalidArgument, id: "COMMAND-gyPUXOTA4N"},
	{what: "update with a host without port", op: "update", body: `{"id":"$id","senderAddress":"s@example.com","senderName":"S","host":"h"}`, code: connect.CodeInvalidArgument, id: "COMMAND-kZNVkuL32L"},
	{what: "update of a made-up id", op: "update", body: `{"id":"123456789012345678",` + settings + `}`, code: connect.CodeNotFound, id: "COMMAND-j5IDFtt3T1"},
	{what: "add with an empty sender", op: "add", body: `{"senderAddress":" ","senderName":"S","host":"$host"}`, code: connect.CodeInvalidArgument, id: "COMMAND-SAAFpV8VKV"},
	{what: "add with a host without port", op: "add", body: `{"senderAddress":"s@example.com","senderName":"S","host":"h"}`, code: connect.CodeInvalidArgument, id: "COMMAND-EvAtufIinh"},
	{what: "add without a sender name", op: "add", body: `{"senderAddress":"s@example.com","host":"$host"}`, code: connect.CodeInvalidArgument, check: saidLength("SenderName", 1, 200)},

	{what: "test values with a password", op: "test values", body: `{` + settings + `,"password":"$password","receiverAddress":"r@example.com"}`, check: delivered},
	{what: "test values with the stored password", op: "test values", body: `{` + settings + `,"id":"$id","receiverAddress":"r@example.com"}`, check: delivered},
	{what: "test values towards another host with the stored password", op: "test values", body: `{"senderAddress":"s@example.com","senderName":"S","host":"other.example.com:25","user":"mailkeep","id":"$id","receiverAddress":"r@example.com"}`,
		code: connect.CodeFailedPrecondition, id: "MAILKEEP-BIND"},
	{what: "test values with tls and the stored password", op: "test values", body: `{` + settings + `,"tls":true,"id":"$id","receiverAddress":"r@example.com"}`,
		code: connect.CodeFailedPrecondition, id: "MAILKEEP-BIND"},
	{what: "test values without any password", op: "test values", body: `{` + settings + `,"receiverAddress":"r@example.com"}`, code: connect.CodeInvalidArgument, id: "SMTP-p9kj"},
	{what: "test values of a made-up id", op: "test values", body: `{` + settings + `,"id":"123456789012345678","receiverAddress":"r@example.com"}`, code: connect.CodeNotFound, id: "SMTP-p9cc"},
	{what: "test of a made-up id", op: "test", body: `{"id":"123456789012345678","receiverAddress":"r@example.com"}`, code: connect.CodeNotFound, id: "SMTP-99klw"},
	{what: "test to no address", op: "test", body: `{"id":"$id","receiverAddress":"nobody"}`, code: connect.CodeInvalidArgument, check: said("ReceiverAddress: value must be a valid email address")},

	{what: "list", op: "list", body: `{"query":{"asc":true}}`, check: listed},
	{what: "list too much", op: "list", body: `{"query":{"limit":1001}}`, code: connect.CodeInvalidArgument, id: "QUERY-4M0fs"},
	{what: "list past the end", op: "list", body: `{"query":{"offset":"1000"}}`, check: func(r *run) {
		if n := r.last.fields.at("details", "totalResult"); n != "1" || r.last.fields.at("result") != nil {
			r.t.Errorf("totalResult %v and result %v", n, r.last.fields.at("result"))
		}
	}},
	{what: "deactivate", op: "deactivate", body: `{"id":"$id"}`, check: detailed(1)},
	{what: "deactivate again", op: "deactivate", body: `{"id":"$id"}`, check: detailed(0)},
	{what: "nothing is active any more", op: "active", code: connect.CodeNotFound, id: "QUERY-fwofw"},
	{what: "deactivate a made-up id", op: "deactivate", body: `{"id":"123456789012345678"}`, code: connect.CodeNotFound, id: "COMMAND-k39PJ"},
	{what: "activate a made-up id", op: "activate", body: `{"id":"123456789012345678"}`, code: connect.CodeNotFound, id: "COMMAND-E9K20hxOS9"},
	{what: "activate before the removal", op: "activate", body: `{"id":"$id"}`, check: detailed(1)},
	{what: "remove the active one", op: "remove", body: `{"id":"$id"}`, check: detailed(1)},
	{what: "nothing is promoted", op: "active", code: connect.CodeNotFound, id: "QUERY-fwofw"},
	{what: "get a removed one", op: "get", body: `{"id":"$id"}`, code: connect.CodeNotFound, id: "QUERY-fwofw"},
	{what: "password of a removed one", op: "password", body: `{"id":"$id","password":"x"}`, code: connect.CodeNotFound, id: "COMMAND-rDHzqjGuKQ"},
	{what: "remove a removed one", op: "remove", body: `{"id":"$id"}`, code: connect.CodeNotFound, id: "COMMAND-09CXlTDL6w"},
	{what: "an id that is too long", op: "activate", body: `{"id":"` + strings.Repeat("1", 201) + `"}`, code: connect.CodeInvalidArgument, check: saidLength("Id", 1, 200)},
	{what: "an id of 101 characters", op: "get", body: `{"id":"` + strings.Repeat("1", 101) + `"}`, code: connect.CodeInvalidArgument, check: saidLength("Id", 1, 100)},
	{what: "an id of 100 characters", op: "get", body: `{"id":"` + strings.Repeat("ü", 100) + `"}`, code: connect.CodeNotFound, id: "QUERY-fwofw"},
	{what: "an id that climbs", op: "get", body: `{"id":"a/../b"}`, code: connect.CodeNotFound, id: "QUERY-fwofw"},
}

const toReader = `{"id":"$id","receiverAddress":"reader@example.com"}`

// TestScenario is the life of a provider, by both generations, over every protocol and version of
// HTTP, with and without TLS, against a mail server that asserts which password came.
func TestScenario(t *testing.T) {
	plain, secure := start(t, config(t)), startTLS(t, config(t))
	for _, s := range []*service{plain, secure} {
		for _, v := range []httpVersion{http1, http2} {
			for _, w := range s.wires(v) {
				for _, g := range generations {
					t.Run(fmt.Sprintf("%s/tls=%t/%s", g.name, s == secure, w.name), func(t *testing.T) {
						r := &run{t: t, s: s, wire: w, gen: g, inbox: inbox(t, "p1"), version: 1}
						for _, step := range scenario {
							r.do(step)
						}
					})
				}
			}
		}
	}
}

func (r *run) do(s step) {
	r.t.Helper()
	if s.setup != nil {
		s.setup(r)
	}
	m := methods()[r.gen.methods[s.op]]
	body := strings.NewReplacer("$id", r.id, "$host", r.inbox.Addr(), "$password", r.password()).Replace(s.body)
	if body == "" {
		body = "{}"
	}
	before := r.last
	r.last = r.wire.call(r.t, adminToken, m, message(r.t, string(m.Descriptor.Input().FullName()), body))
	if r.last.code != s.code || r.last.id != s.id {
		r.t.Fatalf("%s: %s: %v, want code %v and id %q", s.what, m.Name, r.last, s.code, s.id)
	}
	if s.id != "" && !strings.HasSuffix(r.last.message, " ("+s.id+")") {
		r.t.Errorf("%s: the message %q does not end in its id", s.what, r.last.message)
	}
	r.checkDeprecation(s, m.Deprecated)
	if s.check != nil {
		r.t.Logf("%s: %v", s.what, r.last)
		s.check(r)
	}
	if r.last.code != 0 || r.last.fields.at("details", "sequence") == nil {
		r.last.fields = before.fields // keeps the sequence for detailed
	}
}

// checkDeprecation wants the announcement on every answer of a deprecated method, and on no other.
func (r *run) checkDeprecation(s step, deprecated bool) {
	h := r.last.header
	if got := h.Get("Deprecation"); deprecated != (got == "@1795392000") || !deprecated && got != "" {
		r.t.Errorf("%s: Deprecation: %q", s.what, got)
	}
	// An id that can't be one is not repeated in a header.
	linked := deprecated && !strings.Contains(s.body, strings.Repeat("1", 201))
	if got := h.Get("Link"); linked != strings.Contains(got, `>; rel="successor-version"`) {
		r.t.Errorf("%s: Link: %q", s.what, got)
	}
	if deprecated && s.op == "password" {
		want := `</admin/v1/email/smtp/` + r.id + `/password>; rel="successor-version"`
		if got := h.Get("Link"); got != want && !strings.Contains(s.body, "123456789012345678") {
			r.t.Errorf("%s: Link: %q, want %q", s.what, got, want)
		}
	}
	if h.Get("Sunset") != "" {
		r.t.Errorf("%s: Sunset: %q without a date configured", s.what, h.Get("Sunset"))
	}
}

// password is the newest at the inbox: awkward, and different at each version.
func (r *run) password() string {
	if r.version == 1 {
		return "p1"
	}
	return fmt.Sprintf(` päss \"%d\" `, r.version)
}

// rotateInbox gives the account at the mail server its next password.
func rotateInbox(r *run) {
	r.version++
	unescaped := strings.ReplaceAll(r.password(), `\"`, `"`)
	if got := r.inbox.SetPassword(user, unescaped); got != r.version {
		r.t.Fatalf("version %d at the inbox, want %d", got, r.version)
	}
}

var eighteenDigits = regexp.MustCompile(`^[1-9][0-9]{17}$`)

func added(r *run) {
	r.id, _ = r.last.fields.at("id").(string)
	if !eighteenDigits.MatchString(r.id) {
		r.t.Errorf("id %q", r.id)
	}
	detailed(-1)(r)
}

var lastSequence = map[*service]int{}

// detailed wants details, with a sequence that has gone up by so much; -1 for whatever.
func detailed(up int) func(*run) {
	return func(r *run) {
		d := r.last.fields
		var sequence int
		if _, err := fmt.Sscan(fmt.Sprint(d.at("details", "sequence")), &sequence); err != nil {
			r.t.Fatalf("sequence: %v", err)
		}
		if up >= 0 && sequence != lastSequence[r.s]+up {
			r.t.Errorf("sequence %d after %d, want it up by %d", sequence, lastSequence[r.s], up)
		}
		lastSequence[r.s] = sequence
		for _, key := range []string{"creationDate", "changeDate"} {
			if d.at("details", key) == nil {
				r.t.Errorf("no %s in %v", key, d)
			}
		}
		if d.at("details", "resourceOwner") != "default" {
			r.t.Errorf("resourceOwner %v", d.at("details", "resourceOwner"))
		}
	}
}

func shown(description, state string) func(*run) {
	return func(r *run) {
		f := r.last.fields
		want := map[string]any{
			"id": r.id, "description": description, "senderAddress": "sender@example.com", "senderName": "Sänder",
			"host": r.inbox.Addr(), "user": user, "state": "EMAIL_PROVIDER_" + state, "tls": nil, "replyToAddress": nil,
		}
		if r.gen.deprecated {
			want["state"] = "SMTP_CONFIG_" + state
		} else {
			want["plain"] = map[string]any{}
		}
		if description == "first" {
			want["replyToAddress"] = "reply@example.com"
		}
		for name, value := range want {
			if got := r.gen.setting(f, name); fmt.Sprint(got) != fmt.Sprint(value) {
				r.t.Errorf("%s is %v, want %v", name, got, value)
			}
		}
		if strings.Contains(fmt.Sprint(f), "p1") || strings.Contains(fmt.Sprint(f), "päss") {
			r.t.Errorf("a secret in %v", f)
		}
	}
}

// delivered wants one more mail at the inbox, authenticated with the newest password.
func delivered(r *run) {
	r.mails++
	mails := r.inbox.Mails()
	if len(mails) != r.mails {
		r.t.Fatalf("%d mails at the inbox, want %d", len(mails), r.mails)
	}
	m := mails[len(mails)-1]
	if m.Version != r.version || m.User != user {
		r.t.Errorf("the mail came from user %q with password version %d, want %d", m.User, m.Version, r.version)
	}
	if !strings.Contains(string(m.Data), "Subject: Test email\r\n") {
		r.t.Errorf("the mail is\n%s", m.Data)
	}
}

func said(text string) func(*run) {
	return func(r *run) {
		if !strings.Contains(r.last.message, text) {
			r.t.Errorf("message %q, want %q in it", r.last.message, text)
		}
	}
}

func saidLength(field string, lowest, highest int) func(*run) {
	return func(r *run) {
		want := fmt.Sprintf(".%s: value length must be between %d and %d runes, inclusive", field, lowest, highest)
		if !strings.HasPrefix(r.last.message, "invalid ") || !strings.HasSuffix(r.last.message, want) {
			r.t.Errorf("message %q, want it to end in %q", r.last.message, want)
		}
	}
}

func toldBy(step, code string) func(*run) {
	return func(r *run) {
		if !strings.Contains(r.last.message, "step "+step) || !strings.Contains(r.last.message, code) {
			r.t.Errorf("message %q does not tell step %s and code %s", r.last.message, step, code)
		}
		if strings.Contains(r.last.message, "p1") {
			r.t.Errorf("message %q has the password", r.last.message)
		}
	}
}

func listed(r *run) {
	f := r.last.fields
	results, _ := f.at("result").([]any)
	if len(results) != 1 || f.at("details", "totalResult") != "1" || f.at("details", "viewTimestamp") == nil {
		r.t.Fatalf("list is %v", f)
	}
	if got, want := f.at("details", "processedSequence"), fmt.Sprint(lastSequence[r.s]); got != want {
		r.t.Errorf("processedSequence %v, want %v", got, want)
	}
	if got := results[0].(map[string]any)["id"]; got != r.id {
		r.t.Errorf("listed %v, want %v", got, r.id)
	}
}
