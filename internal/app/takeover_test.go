package app_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// TestTakeover kills a replica that is sending: another one, which has nothing to do, takes its mails as soon as
// their leases have passed.
func TestTakeover(t *testing.T) {
	const mails = 20
	url, keyset := pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")
	t.Setenv(databaseVariable, url)
	t.Setenv(keysetVariable, keyset)
	stalled := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(stalled) })
	t.Cleanup(goOn)
	server, err := smtptest.Start(smtptest.Options{DemandAuth: true, OnMail: func(smtptest.Mail) { <-stalled }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { goOn(); _ = server.Close() })
	server.SetPassword(user, "p1")

	client := newClient(t)
	gone := startChild(t, client, filepath.Join(t.TempDir(), "gone"), "", adminToken)
	must := func(verb, path, body string) string {
		t.Helper()
		status, answer, err := gone.call(verb, path, body)
		if err != nil || status != 200 {
			t.Fatalf("%s: %d %s %v", path, status, answer, err)
		}
		return idIn(answer)
	}
	id := must("POST", "/admin/v1/email/smtp", fmt.Sprintf(
		`{"senderAddress":"s@example.com","senderName":"S","host":%q,"user":%q,"password":"p1"}`, server.Addr(), user))
	must("POST", "/admin/v1/email/"+id+"/_activate", "{}")
	var sent []string
	for range mails {
		sent = append(sent, must("POST", "/v1/messages", `{"to":["r@example.com"],"text":"x"}`))
	}
	c := replica(t, url, keyset)
	c.Lease = childLease
	s := start(t, c)
	r := &mailRun{t: t, s: s, wire: s.wires(http1)[0], inbox: server}
	r.until(sent[0], "MESSAGE_STATE_SENDING")
	held := len(r.listed("MESSAGE_STATE_SENDING"))
	gone.kill()
	killed := time.Now()
	goOn() // the server
	for _, id := range sent {
		r.until(id, "MESSAGE_STATE_DELIVERED")
	}
	took := time.Since(killed)
	t.Logf("REL takeover lease_ms=%d held=%d took_ms=%d", childLease.Milliseconds(), held, took.Milliseconds())
	if held == 0 || took > childLease+time.Second {
		t.Errorf("%d mails of a killed replica were sent %s after it, with a lease of %s", held, took, childLease)
	}
}

// listed returns the mails in a state.
func (r *mailRun) listed(state string) []any {
	r.t.Helper()
	mails, _ := r.call("ListMessages", `{"states":["`+state+`"],"pageSize":1000}`).at("messages").([]any)
	return mails
}
