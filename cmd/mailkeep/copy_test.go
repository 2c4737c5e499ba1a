package main

import (
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// TestMoving moves a service from its embedded store to PostgreSQL as an operator would: the same provider,
// password and token work there.
func TestMoving(t *testing.T) {
	url := pgtest.Database(t)
	s := startService(t, nil)
	id := s.add(t, "secret")
	if r := runWith(t, "", "copy", "--from", s.dir, "--to", url); r.status == 0 || !strings.Contains(r.err, "in use") {
		t.Errorf("copy under a running service: %+v", r)
	}
	s.stop()
	if r := runWith(t, "", "migrate", "--database-url", url); r.status != 0 || !strings.Contains(r.out, "the schema is at version") {
		t.Fatalf("migrate: %+v", r)
	}
	r := runWith(t, "", "copy", "--from", s.dir, "--to", url)
	if r.status != 0 || !strings.Contains(r.out, "rows copied and compared") || !strings.Contains(r.out, "--database-url") {
		t.Fatalf("copy: %+v", r)
	}
	if r := runWith(t, "", "serve", "--data-dir", s.dir, "--listen", "127.0.0.1:0"); r.status == 0 || !strings.Contains(r.err, "--database-url") {
		t.Errorf("serve on the source: %+v", r)
	}
	moved := startService(t, func(c *app.Config) { c.DataDir, c.DatabaseURL, c.CAFile = s.dir, secret.New(url), "" })
	if r := s.run(t, "", "provider", "get", id); r.status != 0 || !strings.Contains(r.out, id) {
		t.Errorf("provider get: %+v", r)
	}
	if r := s.run(t, "", "provider", "events", id); r.status != 0 || !strings.Contains(r.out, "provider.added") {
		t.Errorf("provider events: %+v", r)
	}
	moved.stop()
	if r := runWith(t, "", "copy", "--from", s.dir, "--abandon"); r.status != 0 || !strings.Contains(r.out, "can be served again") {
		t.Errorf("copy --abandon: %+v", r)
	}
	if r := runWith(t, "", "copy", "--from", s.dir, "--abandon"); r.status == 0 || !strings.Contains(r.err, "was not copied") {
		t.Errorf("copy --abandon again: %+v", r)
	}
}

func TestCopyNeedsBothEnds(t *testing.T) {
	for want, args := range map[string][]string{
		"--to must name":  {"copy", "--from", t.TempDir()},
		"has no database": {"copy", "--from", t.TempDir(), "--to", "postgres://127.0.0.1:1/x"},
		"can't be":        {"migrate", "--database-url", "postgres://u:c4n4ry@[/x"},
	} {
		if r := runWith(t, "", args...); r.status == 0 || !strings.Contains(r.err, want) || strings.Contains(r.err, "c4n4ry") {
			t.Errorf("%q: %+v, want an error with %q", args, r, want)
		}
	}
}
