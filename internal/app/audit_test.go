package app_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/app"
)

// TestAudit keeps a chain over new keys, restarts and a restored backup, and has the service name what was
// changed behind its back, to its owners only.
func TestAudit(t *testing.T) {
	f := startFull(t)
	f.setPassword(t, "p2")
	if r := f.send(t, f.client(http1), raw{verb: "POST", path: "/v1/keys/_rotate", body: "{}"}); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	f.setPassword(t, "p3")
	owner, _ := f.createToken(t, `{"name":"owner","roles":["IAM_OWNER"]}`)
	viewer, _ := f.createToken(t, `{"name":"viewer","roles":["IAM_OWNER_VIEWER"]}`)
	for token, status := range map[string]int{owner: 200, viewer: 403, "nobody": 401} {
		for _, path := range []string{"/v1/events/_verify", "/v1/events/_search"} {
			q := raw{"POST", path, map[string]string{"Authorization": "Bearer " + token}, "{}"}
			if r := f.send(t, f.client(http1), q); r.status != status {
				t.Errorf("%s: %d %s, want %d", path, r.status, r.body, status)
			}
		}
	}
	if list := f.send(t, f.client(http1), raw{verb: "POST", path: "/v1/events/_search", body: `{"pageSize":2}`}).body; strings.Count(list, `"providerId":"`+f.provider) != 2 {
		t.Errorf("events: %s", list)
	}
	backedUp := filepath.Join(t.TempDir(), "backup")
	if _, err := app.Backup(t.Context(), app.BackupOptions{DataDir: f.config.DataDir, To: backedUp}); err != nil {
		t.Fatal(err)
	}
	verified := f.verifyEvents(t)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(verified, "findings") || !strings.Contains(verified, `"head":"`) {
		t.Errorf("as it was: %s", verified)
	}
	c := f.config
	c.DataDir = newFolder(t, filepath.Join(f.config.DataDir, "keyset.json"))
	if _, err := app.Restore(t.Context(), app.RestoreOptions{From: backedUp, DataDir: c.DataDir}); err != nil {
		t.Fatal(err)
	}
	restored := start(t, c)
	if got := restored.verifyEvents(t); got != verified {
		t.Errorf("restored: %s, want %s", got, verified)
	}
	if err := restored.stop(); err != nil {
		t.Fatal(err)
	}
	alter(t, c.DataDir, `UPDATE events SET name = 'somebody' WHERE sequence = 2`)
	if got := start(t, c).verifyEvents(t); !strings.Contains(got, `"text":"event 2: not what was recorded here`) {
		t.Errorf("changed: %s", got)
	}
}

func (s *service) verifyEvents(t *testing.T) string {
	t.Helper()
	return s.send(t, s.client(http1), raw{verb: "POST", path: "/v1/events/_verify", body: "{}"}).body
}

// alter changes the database of a service that is not running.
func alter(t *testing.T, dir, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "mailkeep.db"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := db.ExecContext(t.Context(), query)
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := r.RowsAffected(); n != 1 || err != nil {
		t.Errorf("%s: %d rows, %v", query, n, err)
	}
}

// TestRequestID has callers bring their own, which then is everywhere, unless it is not fit for logs.
func TestRequestID(t *testing.T) {
	s := start(t, config(t))
	for given, taken := range map[string]bool{"trace-1.b_C": true, "": false, "a b": false, strings.Repeat("x", 65): false} {
		r := s.send(t, s.client(http1), raw{"GET", "/admin/v1/smtp/1", map[string]string{"X-Request-Id": given}, ""})
		got := r.header.Get("X-Request-Id")
		if got == "" || (got == given) != taken || strings.Contains(s.log.String(), "request_id="+got) != true {
			t.Errorf("%q: the answer has %q", given, got)
		}
	}
}

// TestDeniedCalls keeps whoever guesses tokens from filling the log.
func TestDeniedCalls(t *testing.T) {
	s := start(t, config(t))
	const calls = 200
	for range calls {
		r := s.send(t, s.client(http1), raw{"GET", "/admin/v1/email", map[string]string{"Authorization": "Bearer guess"}, ""})
		if r.status != 401 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	if n := strings.Count(s.log.String(), "code=unauthenticated"); n < 10 || n > 20 {
		t.Errorf("%d lines for %d denied calls", n, calls)
	}
	s.send(t, s.client(http1), raw{verb: "GET", path: "/admin/v1/email"})
	if !strings.Contains(s.log.String(), "code=not_found") && !strings.Contains(s.log.String(), "code=ok") {
		t.Error("other calls have lost their lines")
	}
}
