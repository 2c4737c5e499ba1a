//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const (
	chromium = "/usr/bin/chromium"
	html     = `<!doctype html><meta charset="utf-8"><title>e2e</title><script src="page.js"></script>`
)

// needModules fails without the packages of package-lock.json.
func needModules(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("node_modules/.package-lock.json"); err != nil {
		t.Fatal("the npm packages are missing: run `npm ci` in internal/e2e")
	}
}

// runNode runs the tests of a script.
func runNode(t *testing.T, script string, env ...string) {
	t.Helper()
	needModules(t)
	cmd := exec.CommandContext(t.Context(), "node", "--test", "--test-reporter=spec", "--test-timeout=60000", script)
	cmd.Env = append(append(environ(), env...), "CHROMIUM="+chromium)
	out, err := cmd.CombinedOutput()
	if t.Logf("node --test %s\n%s", script, out); err != nil {
		t.Fatal(err)
	}
}

// servePage serves page.js with its packages, and a document that runs it, on an origin of its own.
func servePage(t *testing.T) (origin string) {
	t.Helper()
	needModules(t)
	if _, err := os.Stat(chromium); err != nil {
		t.Fatalf("there is no %s: apt-get install chromium", chromium)
	}
	script, err := exec.CommandContext(t.Context(), "node_modules/.bin/esbuild", "page.js", "--bundle", "--log-level=error").Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("esbuild: %s", failed.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(html))
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(script)
	})
	own := descriptors(t)
	mux.HandleFunc("GET /descriptors.binpb", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(own) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// curl is buf curl over gRPC and HTTP/2 without TLS; it knows no schema but what reflection says.
type curl struct {
	service    *service
	reflection string
	status     int // that it is to exit with
}

// run passes the body on standard input, behind the header with the token, and returns what is printed.
func (c curl) run(t *testing.T, path, body string, flags ...string) string {
	t.Helper()
	args := append([]string{"tool", "-modfile=internal/tools/buf/go.mod", "buf", "curl",
		"--protocol", "grpc", "--http2-prior-knowledge", "--reflect", "--reflect-protocol", c.reflection}, flags...)
	if body != "" {
		args = append(args, "--header", "@-", "--data", "@-")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, strings.TrimSuffix(c.service.url+"/"+path, "/"))...)
	cmd.Dir = root
	cmd.Stdin = strings.NewReader("Authorization: Bearer " + adminToken + "\n\n" + body)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != c.status {
		t.Fatalf("buf curl %s %s: %v, want status %d\n%s", path, flags, err, c.status, &out)
	}
	return out.String()
}

// call calls a method of AdminService, or of the service that is named with it, and returns the last
// message of the answer.
func (c curl) call(t *testing.T, method string, request map[string]any) (response map[string]any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(method, "/") {
		method = "zitadel.admin.v1.AdminService/" + method
	}
	out := c.run(t, method, string(body))
	for messages := json.NewDecoder(strings.NewReader(out)); messages.More(); {
		response = nil
		if err := messages.Decode(&response); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return response
}
