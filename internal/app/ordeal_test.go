package app_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

// ordeal is a service that callers change things in until harm comes to it, again and again.
type ordeal struct {
	*ledger
	t       *testing.T
	dir     string
	flaw    string
	client  *http.Client
	inbox   *smtptest.Server
	callers []*caller
	token   string // of the admin
	harms   int
}

func newOrdeal(t *testing.T, dir, flaw string) *ordeal {
	t.Helper()
	o := &ordeal{ledger: newLedger(), t: t, dir: dir, flaw: flaw, client: newClient(t)}
	var err error
	if o.inbox, err = smtptest.Start(smtptest.Options{DemandAuth: true, Keep: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.inbox.Close() })
	for i := range 8 {
		o.callers = append(o.callers, &caller{ledger: o.ledger, name: fmt.Sprint("caller", i), inbox: o.inbox})
	}
	return o
}

// start starts the service on what there is.
func (o *ordeal) start() *child {
	o.t.Helper()
	c := startChild(o.t, o.client, o.dir, o.flaw, "")
	o.meet(c)
	return c
}

// meet has the service known to the callers. The first time it shows its admin token and its key, which
// must be there for ever.
func (o *ordeal) meet(c *child) {
	o.t.Helper()
	token, err := os.ReadFile(filepath.Join(o.dir, "admin.token"))
	if err != nil {
		o.t.Fatal(err)
	}
	primary, _, err := readKeys(o.dir)
	if err != nil {
		o.t.Fatal(err)
	}
	if o.token == "" {
		o.token, o.keys = strings.TrimSpace(string(token)), []uint32{primary}
	}
	if strings.TrimSpace(string(token)) != o.token {
		o.complain("the admin token is another one")
	}
	c.token = o.token
}

// round harms a service, which ends it, when n more calls were acknowledged, while more are made, and
// holds what it leaves behind against the ledger.
func (o *ordeal) round(n int, harm func(*child)) {
	o.t.Helper()
	c := o.start()
	end := o.begin(c, nil)
	o.more(n)
	harm(c)
	o.harms++
	end()
	o.inspect()
}

// begin has the callers call until nobody answers or it is enough; end waits for them.
func (o *ordeal) begin(c *child, enough <-chan struct{}) (end func()) {
	o.close(false)
	loading := make(chan struct{})
	go func() { defer close(loading); o.load(c, enough) }()
	return func() { <-loading }
}

func (o *ordeal) load(c *child, enough <-chan struct{}) {
	var all sync.WaitGroup
	for _, caller := range o.callers {
		all.Go(func() {
			for caller.act(c) {
				select {
				case <-enough:
					return
				default:
				}
			}
		})
	}
	all.Wait()
}

// more waits until n more calls were acknowledged.
func (o *ordeal) more(n int) {
	o.t.Helper()
	n += o.acknowledged()
	o.until("calls are acknowledged", func() bool { return o.acknowledged() >= n })
}

func (o *ordeal) until(what string, so func() bool) {
	o.t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.t.Fatalf("waited in vain until %s; refused: %v", what, o.refusals)
		}
	}
}

// interrupt harms a service that is about to start; whatever that leaves, the next one must start on it.
func (o *ordeal) interrupt(after time.Duration, harm func(*child)) {
	o.t.Helper()
	c := launchChild(o.t, o.client, o.dir, o.flaw, "", nil)
	time.Sleep(after) // to be anywhere
	harm(c)
	o.harms++
}

// inspect checks a copy, so that the next service has to do with what this one has left.
func (o *ordeal) inspect() {
	o.t.Helper()
	dir, err := os.MkdirTemp(o.t.TempDir(), "")
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err = os.CopyFS(dir, os.DirFS(o.dir)); err == nil {
		err = o.check(o.t.Context(), dir)
	}
	if err == nil {
		err = checkIntegrity(o.t.Context(), filepath.Join(dir, "mailkeep.db"))
	}
	if err != nil {
		o.t.Fatal(err)
	}
	for _, caller := range o.callers {
		caller.providers, caller.tokens = o.owned(caller.name)
	}
}

func checkIntegrity(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("the database is damaged: %s", verdict)
	}
	return nil
}

// finish uses what was promised in a last service: every password at the inbox, every token.
func (o *ordeal) finish() {
	o.t.Helper()
	c := o.start()
	o.use(c)
	c.stop()
	o.inspect()
	o.t.Logf("harms=%d lost=%d, refused: %v", o.harms, o.lost, o.refusals)
}

// mustBeRight fails the test for everything that was wrong.
func (o *ordeal) mustBeRight() {
	o.t.Helper()
	slices.Sort(o.wrong)
	for _, w := range slices.Compact(o.wrong) {
		o.t.Error(w)
	}
}

func (o *ordeal) use(c *child) {
	for id, p := range o.promised {
		if !slices.ContainsFunc(p.passwords, func(password string) bool { return o.logsIn(c, id, password) }) {
			o.complain("provider %s does not log in with its password", id)
		}
	}
	for id, token := range o.tokens {
		c := *c
		c.token = token.secret
		status, _, err := c.call(http.MethodPost, "/admin/v1/email/_search", "{}")
		if err != nil || (status == http.StatusOK) == token.revoked {
			o.complain("token %s, revoked: %v, gets %d, %v", id, token.revoked, status, err)
		}
	}
}

// logsIn reports whether a provider has the password.
func (o *ordeal) logsIn(c *child, id, password string) bool {
	o.inbox.SetPassword(user, password)
	status, _, err := c.call(http.MethodPost, "/admin/v1/email/smtp/"+id+"/_test", `{"receiverAddress":"r@example.com"}`)
	return err == nil && status == http.StatusOK
}

// figures are what ordeals have shown.
type figures struct{ harms, acknowledged, changes, mails, tokens, keys, landed, lost, wrong int }

func (f *figures) add(o *ordeal) {
	f.harms += o.harms
	f.acknowledged += o.calls
	f.changes += len(o.changes) + len(o.switches)
	f.mails += len(o.mails)
	f.tokens += len(o.tokens)
	f.keys += len(o.keys)
	f.landed += o.landed
	f.lost += o.lost
	f.wrong += len(o.wrong)
}

func (f *figures) String() string {
	return fmt.Sprintf("acknowledged=%d lost=%d wrong=%d changes=%d mails=%d tokens=%d keys=%d made_unanswered=%d",
		f.acknowledged, f.lost, f.wrong, f.changes, f.mails, f.tokens, f.keys, f.landed)
}

// hold fails the test if a promise was broken in what it has shown.
func (f *figures) hold(t *testing.T) {
	t.Helper()
	if f.lost > 0 || f.wrong > 0 || f.acknowledged < 10*f.harms {
		t.Error("the promise is broken, or it was hardly tried")
	}
}
