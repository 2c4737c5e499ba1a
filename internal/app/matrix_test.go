package app_test

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"github.com/mailkeep/mailkeep/internal/method"
)

// subjects is what the id of each method names. Every method of every service is here: one that is not listed
// fails the test.
var subjects = map[string]subject{
	"GetSMTPConfig": nothing, "GetSMTPConfigById": aProvider, "AddSMTPConfig": nothing, "UpdateSMTPConfig": aProvider,
	"UpdateSMTPConfigPassword": aProvider, "ActivateSMTPConfig": aProvider, "DeactivateSMTPConfig": aProvider,
	"RemoveSMTPConfig": aProvider, "TestSMTPConfigById": aProvider, "TestSMTPConfig": nothing, "ListSMTPConfigs": nothing,
	"GetEmailProvider": nothing, "GetEmailProviderById": aProvider, "AddEmailProviderSMTP": nothing,
	"UpdateEmailProviderSMTP": aProvider, "UpdateEmailProviderSMTPPassword": aProvider, "AddEmailProviderHTTP": nothing,
	"UpdateEmailProviderHTTP": aHook, "ActivateEmailProvider": aProvider, "DeactivateEmailProvider": aProvider,
	"RemoveEmailProvider": aProvider, "TestEmailProviderSMTPById": aProvider, "TestEmailProviderSMTP": nothing,
	"ListEmailProviders": nothing,

	"GetProviderStatus": aProvider, "ListProviderEvents": aProvider, "VerifyProvider": aProvider, "VerifySettings": nothing,
	"RotatePassword": aProvider, "WatchRotatePassword": aProvider, "RollbackPassword": aProvider,
	"GetProviderCA": aProvider, "SetProviderCA": aProvider,
	"SendMessage": nothing, "GetMessage": aMessage, "GetMessageContent": aMessage, "ListMessages": nothing,
	"RetryMessage": aMessage, "CancelMessage": aMessage, "WatchMessages": aMessage,
	"CreateToken": nothing, "ListTokens": nothing, "RevokeToken": aToken,
	"ListEvents": nothing, "VerifyEvents": nothing,
	"RotateKeys": nothing, "ListDeprecatedUses": nothing,
	"AddInstance": nothing, "ListInstances": nothing, "UpdateInstance": anInstance, "RemoveInstance": anInstance,
}

// subject is what an id is of.
type subject int

const (
	nothing subject = iota
	aProvider
	aHook
	aMessage
	aToken
	anInstance
)

// matrixRequests are what methods need besides an id, to get as far as to look for it.
var matrixRequests = map[string]string{
	"UpdateSMTPConfig":                `{"senderAddress":"s@example.com","senderName":"S","host":"127.0.0.1:1"}`,
	"UpdateSMTPConfigPassword":        `{"password":"p"}`,
	"UpdateEmailProviderSMTP":         `{"senderAddress":"s@example.com","senderName":"S","host":"127.0.0.1:1"}`,
	"UpdateEmailProviderSMTPPassword": `{"password":"p"}`,
	"UpdateEmailProviderHTTP":         `{"endpoint":"https://example.com/hook"}`,
	"TestSMTPConfigById":              `{"receiverAddress":"you@example.com"}`,
	"TestEmailProviderSMTPById":       `{"receiverAddress":"you@example.com"}`,
	"RotatePassword":                  `{"password":"p","verify":"VERIFY_MODE_OFF"}`,
	"WatchRotatePassword":             `{"password":"p","verify":"VERIFY_MODE_OFF"}`,
}

// matrix is a service with two instances beside the default one, and everybody who may call them.
type matrix struct {
	*service
	t        *testing.T
	state    *sql.DB // its database, to read
	mine     *tenant
	others   *tenant
	callers  []matrixCaller
	ids      map[subject]map[string]string // by whose they are
	cells    int
	wrong    int
	compared int
}

// matrixCaller is somebody with a token of the instance "mine", or not.
type matrixCaller struct {
	name, token string
	permissions string
	code        connect.Code // where the permission is missing
	id          string
}

// may reports whether a caller has the permission of a method.
func (c matrixCaller) may(m *method.Method) bool {
	return slices.Contains(strings.Fields(c.permissions), m.Permission)
}

// Whose an id is.
const (
	own     = "own"
	another = "another's"
	madeUp  = "made-up"
	removed = "removed"
)

const (
	denied  = "AUTH-5mWD2"
	invalid = "AUTH-7fs1e"
)

func newMatrix(t *testing.T) *matrix {
	issuer, _ := launchIssuer(t)
	c := trusting(t, issuer)
	var ahead atomic.Int64
	c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	m := &matrix{t: t, service: start(t, open(t, c)), ids: map[subject]map[string]string{}}
	m.state = openState(t, c.DataDir)
	m.mine, m.others = m.addTenant(t, "mine"), m.addTenant(t, "others")
	role := func(name string) string { return m.mine.create(`{"name":"` + name + `","roles":["` + name + `"]}`) }
	revoked := m.mine.call("CreateToken", `{"name":"revoked","roles":["IAM_OWNER"]}`)
	m.mine.call("RevokeToken", fmt.Sprintf(`{"id":"%v"}`, revoked.at("token", "id")))
	expired := m.mine.create(`{"name":"expired","roles":["IAM_OWNER"],"lifetime":"60s"}`)
	ahead.Store(int64(time.Minute))
	const unauthenticated, permission = connect.CodeUnauthenticated, connect.CodePermissionDenied
	const owner = "iam.read iam.write token.read token.write message.send message.read message.content audit.read"
	m.callers = []matrixCaller{
		{"nobody", "", "", unauthenticated, ""},
		{"garbage", "garbage", "", unauthenticated, invalid},
		{"a million dots", strings.Repeat(".", 9000), "", unauthenticated, invalid},
		{"half a token", m.mine.token[:len(m.mine.token)-1], "", unauthenticated, invalid},
		{"wrong audience", issuer.JWT(issuer.Claims("another", zitadelRole("mail-admin"))), "", unauthenticated, invalid},
		{"an issuer of another instance", issuer.JWT(issuer.Claims(audience, zitadelRole("mail-admin"))), "", unauthenticated, invalid},
		{"revoked", fmt.Sprint(revoked["secret"]), "", unauthenticated, invalid},
		{"expired", expired, "", unauthenticated, invalid},
		{"another instance's owner", m.others.token, "", unauthenticated, invalid},
		{"the operator of the default instance", adminToken, "", unauthenticated, invalid},
		{"viewer", role("IAM_OWNER_VIEWER"), "iam.read token.read message.read", permission, denied},
		{"login client", role("IAM_LOGIN_CLIENT"), "iam.read", permission, denied},
		{"sender", role("MESSAGE_SENDER"), "message.send message.read", permission, denied},
		{"owner", m.mine.token, owner, permission, denied},
	}
	m.name()
	return m
}

// create makes a token and returns its secret.
func (n *tenant) create(body string) string {
	n.t.Helper()
	return fmt.Sprint(n.call("CreateToken", body)["secret"])
}

// name makes what ids name.
func (m *matrix) name() {
	hook := func(n *tenant) string {
		return fmt.Sprint(n.call("AddEmailProviderHTTP", `{"endpoint":"https://example.com/hook"}`)["id"])
	}
	idOfToken := func(n *tenant) string {
		return fmt.Sprint(n.call("CreateToken", `{"name":"a","roles":["MESSAGE_SENDER"]}`).at("token", "id"))
	}
	mail := func(n *tenant) string {
		return fmt.Sprint(n.call("SendMessage", `{"to":["you@example.com"],"text":"x"}`)["id"])
	}
	provider := func(n *tenant) string {
		return fmt.Sprint(n.call("AddEmailProviderSMTP", `{"senderAddress":"s@example.com","senderName":"S","host":"127.0.0.1:1","user":"u","password":"p"}`)["id"])
	}
	gone, goneHook, goneToken := provider(m.mine), hook(m.mine), idOfToken(m.mine)
	m.mine.call("RemoveEmailProvider", `{"id":"`+gone+`"}`)
	m.mine.call("RemoveEmailProvider", `{"id":"`+goneHook+`"}`)
	m.mine.call("RevokeToken", `{"id":"`+goneToken+`"}`)
	m.ids = map[subject]map[string]string{
		nothing:    {"": ""},
		aProvider:  {own: provider(m.mine), another: m.others.provider, madeUp: "999999999999999999", removed: gone},
		aHook:      {own: hook(m.mine), another: hook(m.others), madeUp: "999999999999999999", removed: goneHook},
		aMessage:   {own: mail(m.mine), another: mail(m.others), madeUp: "1j18hgfvsphs21hvj81o6m9d1a"},
		aToken:     {own: idOfToken(m.mine), another: idOfToken(m.others), madeUp: "jfqciwi6grbw", removed: goneToken},
		anInstance: {own: "mine", another: "others", madeUp: "made-up"},
	}
	for _, n := range []*tenant{m.mine, m.others} { // nothing is under way
		n.mails++
		if _, err := n.inbox.Wait(m.t.Context(), n.mails); err != nil {
			m.t.Fatal(err)
		}
	}
	eventually(m.t, 10*time.Second, "all mails settled", func() bool {
		return !strings.Contains(fmt.Sprint(m.mine.call("ListMessages", `{}`), m.others.call("ListMessages", `{}`)), "SENDING")
	})
}

// request is one of a method for an id.
func (m *matrix) request(of *method.Method, id string) proto.Message {
	m.t.Helper()
	body := matrixRequests[of.Name]
	if body == "" {
		body = "{}"
	}
	if id != "" {
		body = strings.Replace(body, "{", `{"id":"`+id+`",`, 1)
		body = strings.Replace(body, ",}", "}", 1)
	}
	if of.Name == "WatchRotatePassword" {
		body = `{"rotation":` + body + `}`
	}
	return message(m.t, string(of.Descriptor.Input().FullName()), body)
}

// offered reports whether a method can be called over a wire.
func offered(w wire, of *method.Method) bool {
	return !of.Streams || !strings.Contains(w.name, "rest") && !strings.Contains(w.name, "REST") && !strings.HasPrefix(w.name, "connect+get")
}

// wires are all, or one of each protocol when the promises are not proved at full length.
func (m *matrix) wires() []wire {
	return slices.DeleteFunc(m.mine.wires(), func(w wire) bool {
		each := []string{"rest/h1", "connect+json/h2", "connect+proto/h1", "grpcweb/h1", "grpc/h2", "grpc on the REST path/h2"}
		return os.Getenv("MAILKEEP_PROVE") == "" && !slices.Contains(each, w.name)
	})
}

// deny makes every call that is not allowed, and wants nothing changed.
func (m *matrix) deny() {
	before := m.digest()
	for _, of := range m.methods() {
		for whose, id := range m.ids[subjects[of.Name]] {
			for _, c := range m.callers {
				if c.may(of) {
					continue
				}
				for _, w := range m.wires() {
					if !offered(w, of) {
						continue
					}
					m.cells++
					a := w.call(m.t, c.token, of, m.request(of, id))
					if a.code != c.code || a.id != c.id {
						m.wrongf("%s calls %s for an id that is %s over %s: %v, want %v", c.name, of.Name, whose, w.name, a, c.code)
					}
					if of.Deprecated != (a.header.Get("Deprecation") != "") {
						m.wrongf("%s calls %s over %s: Deprecation: %q", c.name, of.Name, w.name, a.header.Get("Deprecation"))
					}
				}
			}
		}
	}
	m.unchanged(before, "denied calls")
}

// compare has who may call ask for what is not theirs: the answer is the one for what nobody has, to the byte.
func (m *matrix) compare() {
	before := m.digest()
	for _, of := range m.methods() {
		ids := m.ids[subjects[of.Name]]
		if len(ids) < 2 {
			continue
		}
		for _, c := range m.callers {
			if !c.may(of) {
				continue
			}
			for _, w := range m.wires() {
				if !offered(w, of) {
					continue
				}
				m.cells++
				m.compared++
				theirs, nobodys := w.call(m.t, c.token, of, m.request(of, ids[another])), w.call(m.t, c.token, of, m.request(of, ids[madeUp]))
				if got, want := withoutDate(theirs, ids[another]), withoutDate(nobodys, ids[madeUp]); got != want || theirs.code != connect.CodeNotFound {
					m.wrongf("%s calls %s over %s: for what is another's\n%s\nand for what nobody has\n%s", c.name, of.Name, w.name, got, want)
				}
			}
		}
	}
	m.unchanged(before, "calls for what is another's")
}

// withoutDate is all of an answer that does not differ from one to the next, with the id that was asked for left out.
func withoutDate(a answer, id string) string {
	header := a.header.Clone()
	for _, name := range []string{"Date", "X-Request-Id"} {
		header.Del(name)
	}
	var out strings.Builder
	_ = header.Write(&out)
	return strings.ReplaceAll(a.String()+"\n"+out.String(), id, "{id}")
}

// allow makes the calls that are allowed: they get past the gate. It changes things, so it comes last.
func (m *matrix) allow() {
	for _, of := range m.methods() {
		for _, c := range m.callers {
			for _, w := range m.wires() {
				if !c.may(of) || !offered(w, of) {
					continue
				}
				m.cells++
				a := w.call(m.t, c.token, of, m.request(of, m.ids[subjects[of.Name]][own]))
				if a.code == connect.CodeUnauthenticated || a.code == connect.CodePermissionDenied && of.Name != "CreateToken" {
					m.wrongf("%s may not call %s over %s: %v", c.name, of.Name, w.name, a)
				}
			}
		}
	}
}

func (m *matrix) wrongf(format string, args ...any) {
	m.t.Helper()
	if m.wrong++; m.wrong <= 20 {
		m.t.Errorf(format, args...)
	}
}

// methods are all, in the order of their names.
func (m *matrix) methods() (all []*method.Method) {
	byName := methods()
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, byName[name])
	}
	return all
}

func (m *matrix) unchanged(before, after string) {
	m.t.Helper()
	if m.digest() != before {
		m.wrongf("%s have changed something", after)
	}
}

// digest is of every row of the database but the counts of deprecated calls, which are stored when it suits.
// SQLite reads a table in the order of its key.
func (m *matrix) digest() string {
	m.t.Helper()
	sum := sha256.New()
	for _, table := range column(m.t, m.state, `SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'deprecated_uses' ORDER BY name`) {
		_, _ = fmt.Fprintln(sum, table, rows(m.t, m.state, `SELECT * FROM "`+table+`"`))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// TestMatrix is who may call what for whose, over every protocol, for every method there is.
func TestMatrix(t *testing.T) {
	for name := range methods() {
		if _, listed := subjects[name]; !listed {
			t.Errorf("%s is not in the matrix", name)
		}
	}
	for name := range subjects {
		if methods()[name] == nil {
			t.Errorf("%s is in the matrix, but there is no such method", name)
		}
	}
	m := newMatrix(t)
	m.deny()
	m.compare()
	m.allow()
	t.Logf("REL matrix methods=%d callers=%d cells=%d compared=%d wrong=%d", len(methods()), len(m.callers), m.cells, m.compared, m.wrong)
}

// TestMatrixNotices has a digest see the least change, and a comparison the least difference.
func TestMatrixNotices(t *testing.T) {
	m := &matrix{t: t, service: start(t, config(t))}
	m.state = openState(t, m.DataDir())
	before := m.digest()
	m.createToken(t, `{"name":"one more","roles":["MESSAGE_SENDER"]}`)
	if m.digest() == before {
		t.Error("a token more is not noticed")
	}
	a, b := answer{code: connect.CodeNotFound, header: http.Header{"A": {"1"}}}, answer{code: connect.CodeNotFound, header: http.Header{"A": {"2"}}}
	if withoutDate(a, "id") == withoutDate(b, "id") {
		t.Error("another header is not noticed")
	}
}
