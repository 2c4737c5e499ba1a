//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// demo is a running `mailkeep serve --demo`.
type demo struct {
	printed string   // up to the end of the commands
	curl    []string // the commands, as printed
	cmd     *exec.Cmd
	out     *bufio.Reader
	stderr  strings.Builder
}

func startDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{cmd: exec.Command(binary, "serve", "--demo", "--listen", "127.0.0.1:0")}
	d.cmd.Env = environ()
	d.cmd.Stderr = &d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.out = bufio.NewReader(out)
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM) // Wait tells if it was gone already
		_, _ = io.Copy(io.Discard, d.out)
		if err := d.cmd.Wait(); err != nil {
			t.Errorf("serve --demo: %v\n%s", err, d.stderr.String())
		}
		if dir := filepath.Dir(d.find(t, `Admin token: +(.*)`)); dir != "." {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is left behind: %v", dir, err)
			}
		}
	})
	for !strings.Contains(d.printed, "provider test") {
		line, err := d.out.ReadString('\n')
		if err != nil {
			t.Fatalf("%v\n%s%s", err, d.printed, d.stderr.String())
		}
		d.printed += line
		if command, ok := strings.CutPrefix(line, "  curl"); ok {
			d.curl = append(d.curl, "curl -sS"+strings.TrimSuffix(command, "\n"))
		}
	}
	return d
}

// find returns what a pattern's group matches in what was printed.
func (d *demo) find(t *testing.T, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(d.printed)
	if m == nil {
		t.Fatalf("nothing like %s in\n%s", pattern, d.printed)
	}
	return m[1]
}

// TestDemo reads the rotation that the demo shows, and copies and pastes what it prints, in its order.
func TestDemo(t *testing.T) {
	d := startDemo(t)
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", d.cmd.Process.Pid)); err == nil &&
		!regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("the service may write core dumps:\n%s", limits)
	}
	for _, want := range []string{
		"1. a mail through the active provider: delivered, credential version 1 (inbox saw version 1)\n",
		"2. rotate to a wrong password: refused at step auth (535 5.7.8 Authentication failed); it stays at version 1\n",
		"auth ok; stored as version 2\n",
		"4. the next mail: delivered, credential version 2 (inbox saw version 2)\n",
	} {
		if !strings.Contains(d.printed, want) {
			t.Errorf("no %q in\n%s", want, d.printed)
		}
	}
	if len(d.curl) != 8 {
		t.Fatalf("%d commands in\n%s", len(d.curl), d.printed)
	}
	change, test, send, get := d.curl[0], d.curl[1], d.curl[2], d.curl[3]
	wrong, status, rotate, mails := d.curl[4], d.curl[5], d.curl[6], d.curl[7]
	const inTerminal = "credential version 3"
	for _, step := range []struct {
		command string
		wants   []string
		shown   string // in the terminal of the demo
	}{
		{change, []string{`"resourceOwner":"default"`}, ""},
		{test, []string{"{}"}, inTerminal},
		{send, []string{`{"id":"`}, inTerminal},
		{get, []string{`"state":"MESSAGE_STATE_DELIVERED"`, `"credentialVersion":"2"`}, ""},
		{wrong, []string{"EMAIL-s9kfs", "535", `"step":"auth"`}, ""},
		{status, []string{`"credentialVersion":"3"`, `"breaker":"BREAKER_STATE_CLOSED"`, `"rollbackVersion":"2"`}, ""},
		{rotate, []string{"version 4"}, ""},
		{test, []string{"EMAIL-s9kfs", "535"}, ""},
	} {
		printed := compact(shell(t, step.command))
		for _, want := range step.wants {
			if !strings.Contains(printed, want) {
				t.Errorf("%s\nno %s in %s", step.command, want, printed)
			}
		}
		if step.shown != "" {
			d.shows(t, step.shown)
		}
	}
	d.commandLine(t)
	var received []struct{ CredentialVersion int }
	if err := json.Unmarshal([]byte(shell(t, mails)), &received); err != nil {
		t.Fatal(err)
	}
	var versions []int
	for _, mail := range received {
		versions = append(versions, mail.CredentialVersion)
	}
	if want := "[1 2 3 3 4 4]"; fmt.Sprint(versions) != want {
		t.Errorf("the inbox has mails with the versions %v, want %s", versions, want)
	}
}

// commandLine runs the demo's commands for the command line after the inbox's password was changed.
func (d *demo) commandLine(t *testing.T) {
	t.Helper()
	env := "MAILKEEP_DATA_DIR=" + d.find(t, `MAILKEEP_DATA_DIR=(.*)`)
	id := d.find(t, `Active provider: +(\d{18})`)
	for _, step := range []struct{ command, want string }{
		{"echo wrong-password | " + binary + " provider rotate " + id, "FAILED  auth"},
		{"echo another-password | " + binary + " provider rotate " + id, "stored as credential version 4"},
		{binary + ` message send --to you@example.com --subject Hello --text "It works." --wait`, "credential-version 4"},
		{binary + " provider status " + id, "first-used: 2"},
		{binary + " provider events " + id, "provider.password_changed"},
		{binary + " provider test " + id + " --to you@example.com", "accepted for: you@example.com"},
	} {
		if !strings.Contains(d.printed, strings.ReplaceAll(step.command, binary, "go run ./cmd/mailkeep")) {
			t.Errorf("the demo does not print %s", step.command)
		}
		script := step.command
		if strings.Contains(script, "wrong-password") {
			script += " || test $? = 1"
		}
		if got := shell(t, script, env); !strings.Contains(got, step.want) {
			t.Errorf("%s\nno %s in\n%s", step.command, step.want, got)
		}
	}
}

// shows waits until the inbox has shown a mail in the terminal.
func (d *demo) shows(t *testing.T, want string) {
	t.Helper()
	line, err := d.out.ReadString('\n')
	for err == nil && !strings.HasPrefix(line, "inbox: ") {
		line, err = d.out.ReadString('\n')
	}
	if !strings.Contains(line, want) {
		t.Errorf("the terminal shows %q, %v", line, err)
	}
}

// compact takes the spaces out that protojson puts after colons and commas now and then.
func compact(text string) string {
	return strings.NewReplacer(`": `, `":`, `, "`, `,"`).Replace(text)
}
