package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// replica is config for one of several services on a PostgreSQL database, all with one keyset file.
func replica(t *testing.T, url, keyset string) app.Config {
	c := config(t)
	c.DatabaseURL, c.KeysetFile = secret.New(url), keyset
	return c
}

// TestReplicasNeedOneKeyset: who would seal with keys that the others lack does not start.
func TestReplicasNeedOneKeyset(t *testing.T) {
	url, keyset := pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")
	first := start(t, replica(t, url, keyset))
	early, err := os.ReadFile(keyset)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what, path, says string) {
		t.Helper()
		a, err := app.Open(t.Context(), replica(t, url, path))
		if err == nil {
			_ = a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "--keyset-file") {
			t.Errorf("%s: %v, want an error that says %q", what, err, says)
		}
	}
	fresh := filepath.Join(t.TempDir(), "fresh.json")
	refused("without a keyset", fresh, "every replica must have the keyset")
	if _, err := os.Stat(fresh); err == nil {
		t.Error("a keyset was made that nobody else has")
	}
	elsewhere := config(t)
	start(t, elsewhere)
	refused("with another keyset", filepath.Join(elsewhere.DataDir, "keyset.json"), "not the one that this database was used with")

	call := func(s *service, name, body string) { (&mailRun{t: t, s: s, wire: s.wires(http1)[0]}).call(name, body) }
	second := start(t, replica(t, url, keyset))
	server := inbox(t, "right")
	id := first.addProvider(t, server.Addr(), "right")
	call(first, "RotateKeys", `{}`)
	call(second, "TestEmailProviderSMTPById", `{"id":"`+id+`","receiverAddress":"you@example.com"}`)
	old := filepath.Join(t.TempDir(), "old.json")
	if err := os.WriteFile(old, early, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("with the keyset from before the rotation", old, "open what key")
	call(second, "RotateKeys", `{}`)
	call(first, "TestEmailProviderSMTPById", `{"id":"`+id+`","receiverAddress":"you@example.com"}`)
}

// TestReplicasShareTheAdminToken: the first to start makes one, once.
func TestReplicasShareTheAdminToken(t *testing.T) {
	url, keyset := pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")
	opened := make(chan *app.App, 4)
	for range cap(opened) {
		c := replica(t, url, keyset)
		c.AdminToken = secret.Text{}
		go func() {
			a, err := app.Open(t.Context(), c)
			if err != nil {
				t.Error(err)
			}
			opened <- a
		}()
	}
	made := 0
	for range cap(opened) {
		a := <-opened
		if a == nil {
			continue
		}
		t.Cleanup(func() { _ = a.Close() })
		if !a.NewAdminToken.Empty() {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d admin tokens were made, want 1", made)
	}
}

// TestNoDatabase: a start, or a migration, without its database fails in time and names the setting, not the
// password.
func TestNoDatabase(t *testing.T) {
	silent, _ := silentServer(t)
	url := secret.New("postgres://u:c4n4ry@" + silent + "/db?connect_timeout=1")
	began := time.Now()
	c := config(t)
	c.DatabaseURL = url
	a, err := app.Open(t.Context(), c)
	if err == nil {
		_ = a.Close()
	}
	_, migrating := app.Migrate(t.Context(), url)
	for _, err := range []error{err, migrating} {
		if err == nil || !strings.Contains(err.Error(), "--database-url") || strings.Contains(err.Error(), "c4n4ry") {
			t.Errorf("%v, want an error that names --database-url only", err)
		}
	}
	if took := time.Since(began); took > 2*(answerTime+slack) {
		t.Errorf("it took %s", took)
	}
}

// TestRevokingInReplicas: a token that a replica has just let in stops before its revocation is answered, to whoever of
// two comes first or second.
func TestRevokingInReplicas(t *testing.T) {
	url, keyset := pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")
	here, there := start(t, replica(t, url, keyset)), start(t, replica(t, url, keyset))
	for range 5 {
		token, id := here.createToken(t, `{"name":"x","roles":["IAM_OWNER"]}`)
		if !there.admits(t, token) {
			t.Error("the other replica does not know a new token")
		}
		first := make(chan struct{})
		go func() {
			defer close(first)
			here.send(t, here.client(http1), raw{"DELETE", "/v1/tokens/" + id, nil, ""})
		}()
		r := there.send(t, there.client(http1), raw{"DELETE", "/v1/tokens/" + id, nil, ""})
		if (r.status != 200 && r.status != 404) || there.admits(t, token) || here.admits(t, token) {
			t.Errorf("a token works that is revoked: %d %s", r.status, r.body)
		}
		<-first
	}
}
