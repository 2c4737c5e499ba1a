//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// root is the top of the repository, seen from this folder.
const root = "../.."

// binary is the mailkeep under test.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mailkeep-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "mailkeep")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/mailkeep")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ./cmd/mailkeep: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

const adminToken = "e2e-admin-token-with-more-than-32-bytes"

// service is a running `mailkeep serve`.
type service struct {
	url    string
	cmd    *exec.Cmd
	stderr bytes.Buffer // to be read after stop
	stop   func()
	mail   *mailServer
	t      *testing.T
}

// startService runs the binary on a free port with a new data folder. At its end, which is that of
// the test at the latest, it must exit with 0 and must not have logged a secret.
func startService(t *testing.T, mail *mailServer, args ...string) *service {
	t.Helper()
	s := &service{mail: mail, t: t}
	s.cmd = exec.Command(binary, append([]string{"serve", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(),
		"--ca-file", mail.caFile, "--log-format", "json", "--log-level", "debug"}, args...)...)
	s.cmd.Env = append(environ(), "MAILKEEP_ADMIN_TOKEN="+adminToken)
	s.cmd.Stderr = &s.stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceFunc(s.end)
	t.Cleanup(s.stop)
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if s.url = regexp.MustCompile(`http://[\d.:]+`).FindString(line); s.url == "" {
		s.stop()
		t.Fatalf("the service did not say where it is: %q\n%s", line, &s.stderr)
	}
	return s
}

func (s *service) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // Wait tells if it was gone already
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("mailkeep serve: %v\n%s", err, &s.stderr)
	}
	for _, secret := range append(s.mail.everyPassword(), adminToken) {
		if strings.Contains(s.stderr.String(), secret) {
			s.t.Error("the log has a password or the token in it")
		}
	}
}

// env tells a script where things are.
func (s *service) env() []string {
	return []string{"MAILKEEP_URL=" + s.url, "MAILKEEP_TOKEN=" + adminToken, "MAIL_SERVER=" + s.mail.Addr(), "MAIL_CONTROL=" + s.mail.control}
}

// environ is the environment without settings of mailkeep.
func environ() (kept []string) {
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "MAILKEEP_") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// logLine is a line of the access log.
type logLine struct {
	Message string `json:"msg"`
	Verb    string
	Path    string
	Method  string
	Status  int
}

// log returns the log of a service that has been stopped.
func (s *service) log() (lines []logLine) {
	s.t.Helper()
	for text := range bytes.Lines(s.stderr.Bytes()) {
		var line logLine
		if err := json.Unmarshal(text, &line); err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, line)
	}
	return lines
}

var idPattern = regexp.MustCompile(`\d{18}`)

// preflights counts OPTIONS requests by path.
func preflights(log []logLine) map[string]int {
	asked := map[string]int{}
	for _, line := range log {
		if line.Verb == "OPTIONS" {
			asked[idPattern.ReplaceAllString(line.Path, "{id}")]++
		}
	}
	return asked
}
