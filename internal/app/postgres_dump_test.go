package app_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// What the README says about backing up PostgreSQL.
var (
	dumpOptions    = []string{"--format=custom"}
	restoreOptions = []string{"--exit-on-error", "--single-transaction", "--no-owner"}
)

const cancelStatement = `UPDATE messages SET state = 'cancelled', open = FALSE, due = 0 WHERE open`

// TestPostgresDump does what the README says: a dump of a running service, restored into a new database,
// from which no mail is sent by a service that tries it, and which opens with the keyset only.
func TestPostgresDump(t *testing.T) {
	readme, err := os.ReadFile("../../cmd/mailkeep/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(append(dumpOptions, restoreOptions...), cancelStatement) {
		if !strings.Contains(string(readme), want) {
			t.Errorf("the README does not say %s", want)
		}
	}
	live, restored := pgtest.Database(t), pgtest.Database(t)
	f := &full{config: replica(t, live, filepath.Join(t.TempDir(), "keyset.json")), inbox: inbox(t, "right")}
	f.service = start(t, f.config)
	f.provider = f.addProvider(t, f.inbox.Addr(), "wrong")
	waiting := f.sendMail(t)
	dump := postgres(t, nil, "pg_dump", append(dumpOptions, "--dbname="+live)...)
	f.setPassword(t, "right")
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	postgres(t, dump, "pg_restore", append(restoreOptions, "--dbname="+restored)...)
	postgres(t, nil, "psql", "--dbname="+restored, "--command="+cancelStatement)
	other := replica(t, restored, filepath.Join(t.TempDir(), "other.json"))
	if _, err := app.Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), f.provider) {
		t.Errorf("without the keyset: %v", err)
	}
	mails := len(f.inbox.Mails())
	s := start(t, replica(t, restored, f.config.KeysetFile))
	events, _, err := s.Providers.Events(t.Context(), instance.Default, f.provider, 0, 100)
	if err != nil || len(events) != 2 || events[1].Type != emailprovider.EventActivated {
		t.Errorf("%d events, %v; want those before the dump", len(events), err)
	}
	f.service = s
	f.setPassword(t, "right") // which would send what waits
	if m, _, err := s.Messages.Get(t.Context(), instance.Default, waiting); err != nil || m.State != outbox.Cancelled {
		t.Errorf("the mail is %s, %v", m.State, err)
	}
	if got := len(f.inbox.Mails()); got != mails {
		t.Errorf("%d mails were sent", got-mails)
	}
}

// postgres runs one of PostgreSQL's programs and returns what it puts out.
func postgres(t *testing.T, in []byte, program string, args ...string) []byte {
	t.Helper()
	binaries, err := pgcluster.Find()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries.Folder, program), args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, said.String())
	}
	return out
}
