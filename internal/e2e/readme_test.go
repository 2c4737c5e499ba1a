//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

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
		changes := strings.Contains(block[1], "this-is-my-updated-password") || strings.Contains(block[1], "_rollback")
		if changes != (now == last+1) || !changes && now != last || strings.Contains(compact(out), `{"code":`) {
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
