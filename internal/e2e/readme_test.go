//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
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

// shell runs a script at the top of the repository and returns what it prints.
func shell(t *testing.T, script string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = root, append(environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s\n%v\n%s%s", script, err, out, stderr.String())
	}
	return string(out)
}

// TestDemo copies and pastes what the demo prints, in its order.
func TestDemo(t *testing.T) {
	d := startDemo(t)
	if len(d.curl) != 4 {
		t.Fatalf("%d commands in\n%s", len(d.curl), d.printed)
	}
	change, test, rotate, mails := d.curl[0], d.curl[1], d.curl[2], d.curl[3]
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", d.cmd.Process.Pid)); err == nil &&
		!regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("the service may write core dumps:\n%s", limits)
	}
	if got := shell(t, change); !strings.Contains(got, `"resourceOwner":"default"`) {
		t.Fatalf("%s\n%s", change, got)
	}
	if got := shell(t, test); got != "{}" {
		t.Fatalf("%s\n%s", test, got)
	}
	line, err := d.out.ReadString('\n')
	for err == nil && !strings.HasPrefix(line, "inbox: ") {
		line, err = d.out.ReadString('\n')
	}
	if !strings.Contains(line, "credential version 2") {
		t.Errorf("the terminal shows %q", line)
	}
	if got := shell(t, rotate); !strings.Contains(got, "version 3") {
		t.Errorf("%s\n%s", rotate, got)
	}
	if got := shell(t, test); !strings.Contains(got, "EMAIL-s9kfs") || !strings.Contains(got, "535") {
		t.Errorf("after the rotation at the inbox only: %s", got)
	}
	env := "MAILKEEP_DATA_DIR=" + d.find(t, `MAILKEEP_DATA_DIR=(.*)`)
	id := d.find(t, `Active provider: +(\d{18})`)
	for _, command := range []string{
		binary + " provider list", "echo another-password | " + binary + " provider set-password " + id,
		binary + " provider test " + id + " --to you@example.com",
	} {
		if !strings.Contains(d.printed, strings.ReplaceAll(command, binary, "go run ./cmd/mailkeep")) {
			t.Errorf("the demo does not print %s", command)
		}
		shell(t, command, env)
	}
	var received []struct{ CredentialVersion int }
	if err := json.Unmarshal([]byte(shell(t, mails)), &received); err != nil || len(received) != 2 || received[1].CredentialVersion != 3 {
		t.Errorf("mails: %v, %v", received, err)
	}
}

// TestREADME runs the commands of the README as they stand there.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)<!-- run -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 6 {
		t.Fatalf("%d blocks to run", len(blocks))
	}
	if lines := strings.Count(string(text), "\n"); lines > 250 {
		t.Errorf("the README has %d lines", lines)
	}
	d := startDemo(t)
	url, id := d.find(t, `Mailkeep answers at (\S+) `), d.find(t, `Active provider: +(\d{18})`)
	token, err := os.ReadFile(d.find(t, `Admin token: +(.*)`))
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"URL=" + url, "ID=" + id, "TOKEN=" + strings.TrimSpace(string(token))}
	last := sequence(t, url, env)
	for _, block := range blocks {
		out := shell(t, block[1], env...)
		now := sequence(t, url, env)
		if changes := strings.Contains(block[1], "this-is-my-updated-password"); changes != (now == last+1) || !changes && now != last {
			t.Errorf("%s\nsequence %d after %d; printed %q", block[1], now, last, out)
		}
		last = now
	}
}

// sequence returns the number of the instance's last change.
func sequence(t *testing.T, url string, env []string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/admin/v1/email/_search", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimPrefix(env[2], "TOKEN="))
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var list struct {
		Details struct{ ProcessedSequence string }
	}
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(list.Details.ProcessedSequence, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCurlHTTP2 has calls refused before their body was wanted: curl must get every answer.
func TestCurlHTTP2(t *testing.T) {
	d := startDemo(t)
	url := d.find(t, `Mailkeep answers at (\S+) `)
	out := shell(t, `for i in $(seq 40); do curl -sS -o /dev/null -w '%{http_code} ' --http2-prior-knowledge -X PUT "$URL/admin/v1/smtp/1/password" -d '{"password":"x"}'; done`, "URL="+url)
	if want := strings.Repeat("401 ", 40); out != want {
		t.Errorf("answers: %s", out)
	}
}
