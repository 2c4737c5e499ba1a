package app_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/backup"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/secret"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// operator is who changes providers in these tests.
var operator = emailprovider.Caller{Instance: instance.Default, Actor: emailprovider.Actor{Name: "operator"}}

// full is a service with something of everything in its database.
type full struct {
	*service
	config   app.Config
	inbox    *smtptest.Server
	provider string // active, with a password before the present one
	waiting  []string

	kept, revoked string // tokens
	keptID        string
}

func startFull(t *testing.T) *full {
	t.Helper()
	f := &full{config: config(t), inbox: inbox(t, "p1")}
	f.config.KeepPrevious = time.Hour
	f.service = start(t, f.config)
	f.provider = f.addProvider(t, f.inbox.Addr(), "p1")
	f.sendMail(t)
	if _, err := f.inbox.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	removed, err := f.Providers.AddSMTP(t.Context(), operator, emailprovider.SMTPSettings{
		SenderAddress: "s@example.com", SenderName: "S", Host: f.inbox.Addr(), User: user,
		Auth: emailprovider.AuthSettings{Secret: secret.New("p0")},
	})
	if err == nil {
		_, err = f.Providers.Remove(t.Context(), operator, removed.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.kept, f.keptID = f.createToken(t, `{"name":"kept","roles":["IAM_OWNER"]}`)
	revoked, id := f.createToken(t, `{"name":"revoked","roles":["IAM_OWNER"]}`)
	f.revoked = revoked
	f.revoke(t, id)
	f.setPassword(t, "wrong") // from now on mails wait
	for range 3 {
		f.waiting = append(f.waiting, f.sendMail(t))
	}
	return f
}

func (f *full) setPassword(t *testing.T, password string) {
	t.Helper()
	if _, err := f.Providers.SetPassword(t.Context(), operator, f.provider, secret.New(password)); err != nil {
		t.Fatal(err)
	}
}

func (s *service) sendMail(t *testing.T) (id string) {
	t.Helper()
	id, err := s.Messages.Send(t.Context(), instance.Default, outbox.Draft{To: []string{"r@example.com"}, Text: "c4n4ry"})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *service) revoke(t *testing.T, id string) {
	t.Helper()
	if r := s.send(t, s.client(http1), raw{"DELETE", "/v1/tokens/" + id, nil, ""}); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
}

// admits reports whether a token works.
func (s *service) admits(t *testing.T, token string) bool {
	t.Helper()
	r := s.send(t, s.client(http1), raw{"GET", "/v1/tokens", map[string]string{"Authorization": "Bearer " + token}, ""})
	return r.status == 200
}

// stored is everything in a database.
type stored struct {
	Page     emailprovider.Page
	Events   []emailprovider.Event
	Tokens   []auth.Token
	Mails    []outbox.Message
	Contents map[string]outbox.Sealed
	Attempts map[string][]outbox.Attempt
	Uses     []outbox.Use
}

// read reads the database of a data folder that nobody has.
func read(t *testing.T, dir string) (s stored) {
	t.Helper()
	ctx := t.Context()
	db, err := sqlstore.OpenSQLite(ctx, filepath.Join(dir, "mailkeep.db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Page, err = db.List(ctx, instance.Default, emailprovider.Query{Limit: 1 << 20, Ascending: true})
	must(err)
	s.Events, err = db.Events(ctx, instance.Default, "", 0, 1<<20)
	must(err)
	s.Tokens, err = db.Tokens(ctx, instance.Default)
	must(err)
	s.Mails, err = db.Messages(ctx, instance.Default, outbox.Filter{Limit: 1 << 20})
	must(err)
	s.Contents, s.Attempts = map[string]outbox.Sealed{}, map[string][]outbox.Attempt{}
	for _, m := range s.Mails {
		content, err := db.Content(ctx, instance.Default, m.ID)
		if !errors.Is(err, outbox.ErrNotFound) {
			must(err)
			s.Contents[m.ID] = content
		}
		s.Attempts[m.ID], err = db.Attempts(ctx, instance.Default, m.ID)
		must(err)
	}
	for _, p := range s.Page.Providers {
		uses, err := db.CredentialUses(ctx, instance.Default, p.ID, 100)
		must(err)
		s.Uses = append(s.Uses, uses...)
	}
	must(db.Close())
	return s
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newFolder returns the path of a data folder with a keyset, if one is named, and nothing else.
func newFolder(t *testing.T, keyset string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if keyset != "" {
		copyFile(t, keyset, filepath.Join(dir, "keyset.json"))
	}
	return dir
}

// TestBackupAndRestore backs a service up while it runs and when it is stopped, and restores on another
// machine, which has the keyset or has not.
func TestBackupAndRestore(t *testing.T) {
	f := startFull(t)
	folder := t.TempDir()
	running, stopped := filepath.Join(folder, "running"), filepath.Join(folder, "stopped")
	if err := doErrand(t, "backup", f.config.DataDir, running); err != nil {
		t.Fatal(err)
	}
	f.revoke(t, f.keptID)
	f.sendMail(t)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	made, err := app.Backup(t.Context(), app.BackupOptions{DataDir: f.config.DataDir, To: stopped})
	if err != nil {
		t.Fatal(err)
	}
	if made.Sequences[instance.Default] != 5 || made.Providers != 1 || made.Mails != 5 || made.Open != 4 || len(made.Keys) != 1 {
		t.Errorf("the backup has %+v", made.Contents)
	}
	keyset := filepath.Join(f.config.DataDir, "keyset.json")

	t.Run("everything is equal", func(t *testing.T) {
		dir := newFolder(t, keyset)
		restored, err := app.Restore(t.Context(), app.RestoreOptions{From: stopped, DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if !restored.HasKeyset || restored.Replaced != "" || restored.Cancelled != 0 || !cmp.Equal(restored.Manifest, made.Manifest) {
			t.Errorf("restored: %+v", restored)
		}
		if diff := cmp.Diff(read(t, f.config.DataDir), read(t, dir)); diff != "" {
			t.Errorf("what is stored differs (-original +restored):\n%s", diff)
		}
	})
	t.Run("SQLite opens it", func(t *testing.T) {
		db, err := sql.Open("sqlite", "file:"+stopped+"?mode=ro")
		if err != nil {
			t.Fatal(err)
		}
		var whole string
		var providers int
		err = db.QueryRowContext(t.Context(), `SELECT integrity_check, (SELECT count(*) FROM providers) FROM pragma_integrity_check`).Scan(&whole, &providers)
		if err = errors.Join(err, db.Close()); err != nil || whole != "ok" || providers != 1 {
			t.Errorf("%s, %d providers, %v", whole, providers, err)
		}
	})
	t.Run("everything works", func(t *testing.T) { f.worksRestored(t, running, keyset) })
	t.Run("without the keyset", func(t *testing.T) {
		c := f.config
		c.DataDir = newFolder(t, "")
		restored, err := app.Restore(t.Context(), app.RestoreOptions{From: running, DataDir: c.DataDir})
		if err != nil || restored.HasKeyset {
			t.Fatalf("%+v, %v", restored, err)
		}
		_, err = app.Open(t.Context(), c)
		if err == nil || !strings.Contains(err.Error(), f.provider) || !strings.Contains(err.Error(), "there is no keyset") {
			t.Errorf("the service starts: %v", err)
		}
		c.KeysetFile = keyset
		if err := start(t, c).stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("without what waits", func(t *testing.T) {
		dir := newFolder(t, keyset)
		restored, err := app.Restore(t.Context(), app.RestoreOptions{From: running, DataDir: dir, CancelOpen: true})
		if err != nil || restored.Cancelled != 3 {
			t.Fatalf("%+v, %v", restored, err)
		}
		s := read(t, dir)
		if len(s.Contents) > 0 {
			t.Errorf("%d contents are left", len(s.Contents))
		}
		states := map[outbox.State]int{}
		for _, m := range s.Mails {
			states[m.State]++
			if m.State == outbox.Cancelled && !strings.Contains(m.Reason, "backup") {
				t.Errorf("cancelled because %q", m.Reason)
			}
		}
		if states[outbox.Cancelled] != 3 || states[outbox.Delivered] != 1 || len(s.Mails) != 4 {
			t.Errorf("mails are %v", states)
		}
	})
}

// worksRestored runs a service on a restored database.
func (f *full) worksRestored(t *testing.T, from, keyset string) {
	c := f.config
	c.DataDir = newFolder(t, keyset)
	if _, err := app.Restore(t.Context(), app.RestoreOptions{From: from, DataDir: c.DataDir}); err != nil {
		t.Fatal(err)
	}
	g := *f
	g.service = start(t, c)
	if g.admits(t, f.revoked) || !g.admits(t, f.kept) { // the latter was revoked after the backup
		t.Errorf("tokens: %t, %t", g.admits(t, f.revoked), g.admits(t, f.kept))
	}
	mails := len(f.inbox.Mails())
	g.setPassword(t, "p1") // which sends what waits
	if _, err := f.inbox.Wait(t.Context(), mails+len(f.waiting)); err != nil {
		t.Fatal(err)
	}
	for _, id := range f.waiting {
		err := g.Messages.Watch(t.Context(), instance.Default, id, "", nil, func(outbox.Message) error { return nil })
		if m, _, err2 := g.Messages.Get(t.Context(), instance.Default, id); err != nil || err2 != nil || m.State != outbox.Delivered {
			t.Errorf("a mail that waited is %s: %v", m.State, errors.Join(err, err2))
		}
	}
	if _, _, err := g.Providers.RollbackPassword(t.Context(), operator, f.provider, emailprovider.VerifyOff, nil); err != nil {
		t.Errorf("the password before: %v", err)
	}
}

// spoil writes a backup of the database after a statement has changed it.
func spoil(t *testing.T, from, query string) (to string) {
	t.Helper()
	f, err := backup.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	to = filepath.Join(t.TempDir(), "spoilt")
	draft, err := backup.Create(to, false)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(draft.Database())
	if err == nil {
		err = errors.Join(f.Extract(t.Context(), out, func(int64, int64) {}), out.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", draft.Database())
	if err == nil {
		_, err = db.ExecContext(t.Context(), query)
		err = errors.Join(err, db.Close())
	}
	if err == nil {
		_, err = draft.Finish(t.Context(), f.Manifest, func(int64, int64) {})
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestRestoreRefuses tries what must not be restored, and where not to. Nothing may have changed then.
func TestRestoreRefuses(t *testing.T) {
	f := startFull(t)
	good := filepath.Join(t.TempDir(), "good")
	if err := doErrand(t, "backup", f.config.DataDir, good); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Restore(t.Context(), app.RestoreOptions{From: good, DataDir: f.config.DataDir, Replace: true}); err == nil ||
		!strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("into the folder of a running service: %v", err)
	}
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	before := read(t, f.config.DataDir)
	foreign := config(t)
	if err := start(t, foreign).stop(); err != nil {
		t.Fatal(err)
	}
	foreignKeyset := filepath.Join(foreign.DataDir, "keyset.json")
	cut := filepath.Join(t.TempDir(), "cut")
	copyFile(t, good, cut)
	if err := os.Truncate(cut, 100000); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options app.RestoreOptions
		want    []string
	}{
		"unasked":   {app.RestoreOptions{From: good}, []string{f.config.DataDir, "--replace"}},
		"no backup": {app.RestoreOptions{From: foreignKeyset, Replace: true}, []string{"--from", foreignKeyset, "not a backup"}},
		"a database": {app.RestoreOptions{From: filepath.Join(foreign.DataDir, "mailkeep.db"), Replace: true}, []string{
			"is a database, but not a whole backup"}},
		"cut off": {app.RestoreOptions{From: cut, Replace: true}, []string{cut, "cut off"}},
		"newer": {app.RestoreOptions{From: spoil(t, good, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`),
			Replace: true}, []string{"schema version 999", "run a newer one"}},
		"another keyset": {app.RestoreOptions{From: good, Replace: true, KeysetFile: foreignKeyset}, []string{
			foreignKeyset, "does not fit the backup", f.provider, "nothing was changed"}},
		"no such keyset": {app.RestoreOptions{From: good, Replace: true, KeysetFile: cut + "-none"}, []string{
			"--keyset-file", cut + "-none"}},
		"a keyset without an earlier key": {app.RestoreOptions{
			From: spoil(t, good, `UPDATE key_checks SET ciphertext = x'00'`), Replace: true}, []string{"does not fit the backup", "nothing was changed"}},
	} {
		c.options.DataDir = f.config.DataDir
		_, err := app.Restore(t.Context(), c.options)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
	if diff := cmp.Diff(before, read(t, f.config.DataDir)); diff != "" {
		t.Errorf("something has changed (-before +after):\n%s", diff)
	}
	wantFiles(t, f.config.DataDir, "keyset.json", "lock", "mailkeep.db")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := app.Restore(ended, app.RestoreOptions{From: good, DataDir: f.config.DataDir, Replace: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	wantFiles(t, f.config.DataDir, "keyset.json", "lock", "mailkeep.db")
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s holds %v, want %v", dir, got, want)
	}
}

// TestReplace restores over a database and goes back to it.
func TestReplace(t *testing.T) {
	f := startFull(t)
	file := filepath.Join(t.TempDir(), "backup")
	if err := doErrand(t, "backup", f.config.DataDir, file); err != nil {
		t.Fatal(err)
	}
	f.sendMail(t)
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	after := read(t, f.config.DataDir)
	restored, err := app.Restore(t.Context(), app.RestoreOptions{From: file, DataDir: f.config.DataDir, Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, f.config.DataDir); len(got.Mails) != len(after.Mails)-1 {
		t.Errorf("%d mails, before %d", len(got.Mails), len(after.Mails))
	}
	database := filepath.Join(f.config.DataDir, "mailkeep.db")
	if info, err := os.Stat(database); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Rename(restored.Replaced, database); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(after, read(t, f.config.DataDir)); diff != "" {
		t.Errorf("what was moved aside is not what was there (-want +got):\n%s", diff)
	}
}
