package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wantOutput fails unless a command has said all of these, and nothing on the other stream that is not
// among them.
func wantOutput(t *testing.T, what string, got result, status int, out, errs []string) {
	t.Helper()
	check := func(stream, said string, want []string) {
		lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
		if said == "" {
			lines = nil
		}
		if len(lines) != len(want) {
			t.Errorf("%s: %s has %d lines, want %d:\n%s", what, stream, len(lines), len(want), said)
			return
		}
		for i, pattern := range want {
			if !regexp.MustCompile("^" + pattern + "$").MatchString(lines[i]) {
				t.Errorf("%s: %s has\n%s\nwant\n%s", what, stream, lines[i], pattern)
			}
		}
	}
	if got.status != status {
		t.Errorf("%s: status %d, want %d", what, got.status, status)
	}
	check("the output", got.out, out)
	check("the error output", got.err, errs)
}

func TestBackupAndRestoreCommands(t *testing.T) {
	s := startService(t, nil)
	id := s.add(t, "wrong")
	s.run(t, "", "provider", "activate", id)
	s.run(t, "", "message", "send", "--to", "you@example.com", "--text", "x")
	file := filepath.Join(t.TempDir(), "mailkeep.backup")
	q := regexp.QuoteMeta
	contents := `schema version \d+, sequence 2, 1 provider, 1 mail \(1 still to be sent\)`
	backedUp := []string{`backed up to ` + q(file) + `: [\d.]+ KiB, ` + contents}
	noKeyset := []string{`the keyset is not in it: what is sealed opens with key \d+ only`}
	lost := `passwords that were changed and tokens that were revoked after the backup are as they were before`

	wantOutput(t, "backup", s.run(t, "", "backup", "--to", file), 0, backedUp, noKeyset)
	wantOutput(t, "again", s.run(t, "", "backup", "--to", file), 1, nil,
		[]string{`mailkeep: --to: ` + q(file) + ` exists already; --overwrite replaces an earlier backup`})
	wantOutput(t, "overwrite", s.run(t, "", "backup", "--to", file, "--overwrite"), 0, backedUp, noKeyset)
	wantOutput(t, "restore beside the service", s.run(t, "", "restore", "--from", file, "--replace"), 1, nil,
		[]string{`mailkeep: data folder ` + q(s.dir) + ` is in use by another process \(pid \d+\)`})
	s.stop()
	wantOutput(t, "unasked", s.run(t, "", "restore", "--from", file), 1, nil,
		[]string{`mailkeep: there is a database in ` + q(s.dir) + ` already; --replace moves it aside`})
	restored := func(dir string) []string {
		return []string{`restored to ` + q(dir) + `: as of \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+02:30, ` + contents}
	}
	wantOutput(t, "replace", s.run(t, "", "restore", "--from", file, "--replace"), 0, restored(s.dir), []string{
		`the database that was there is now ` + q(s.dir) + `/mailkeep\.db\.replaced-\d{8}T\d{6}Z; delete it, with its -wal and -shm, once you don't need it`,
		q(s.dir) + `/keyset\.json opens what is in it`,
		`the service will send 1 mail when it starts, also if it did so after the backup; --queued cancel sends none`,
		lost,
	})
	elsewhere := filepath.Join(t.TempDir(), "data")
	wantOutput(t, "elsewhere", runWith(t, "", "restore", "--from", file, "--data-dir", elsewhere, "--queued", "cancel"), 0, restored(elsewhere), []string{
		`there is no keyset at ` + q(elsewhere) + `/keyset\.json: the service starts once the one with key \d+ is there`,
		`cancelled 1 mail still to be sent`,
		lost,
	})
	third := filepath.Join(t.TempDir(), "data")
	wantOutput(t, "named keyset",
		runWith(t, "", "restore", "--from", file, "--data-dir", third, "--keyset-file", filepath.Join(s.dir, "keyset.json")), 0, restored(third), []string{
			q(s.dir) + `/keyset\.json opens what is in it`,
			`the service will send 1 mail .*`,
			lost,
		})
}

func TestBackupRefusals(t *testing.T) {
	none, empty, file := filepath.Join(t.TempDir(), "none"), t.TempDir(), filepath.Join(t.TempDir(), "file")
	begun := t.TempDir()
	if err := os.WriteFile(filepath.Join(begun, "mailkeep.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   []string
		want   string
		status int
	}{
		{[]string{"backup"}, "mailkeep: missing flags: --to=FILE", 2},
		{[]string{"restore"}, "mailkeep: missing flags: --from=FILE", 2},
		{[]string{"backup", "--data-dir", none, "--to", file}, "mailkeep: there is no data folder " + none + ": --data-dir names it", 1},
		{[]string{"backup", "--data-dir", empty, "--to", file},
			"mailkeep: there is no database in " + empty + ": --data-dir names the data folder of a service " +
				"(one with --database-url has none: back up PostgreSQL with its own tools)", 1},
		{[]string{"backup", "--data-dir", begun, "--to", file}, "mailkeep: the database in " + begun + " is empty: no service has used it yet", 1},
		{[]string{"restore", "--from", none}, "mailkeep: --from: open " + none + ": no such file or directory", 1},
		{[]string{"restore", "--from", none, "--queued", "drop"}, `mailkeep: --queued must be one of "keep","cancel" but got "drop"`, 2},
	} {
		got := runWith(t, "", test.args...)
		if got.out != "" || got.err != test.want+"\n" || got.status != test.status {
			t.Errorf("mailkeep %v: %+v, want %s", test.args, got, test.want)
		}
	}
	for _, path := range []string{none, file} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}
