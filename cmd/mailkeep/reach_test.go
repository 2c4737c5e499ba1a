package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

// expect runs a command that must fail with one line on standard error.
func expect(t *testing.T, want string, args ...string) {
	t.Helper()
	got := runWith(t, "", args...)
	if got.out != "" || got.err != "mailkeep: "+want+"\n" || got.status != 1 {
		t.Errorf("mailkeep %s:\n got %+v\nwant %s", strings.Join(args, " "), got, want)
	}
}

func TestServiceNotRunning(t *testing.T) {
	s := startService(t, nil)
	address := filepath.Join(s.dir, app.AddressFile)
	left, err := os.ReadFile(address)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	none := "no service is running with the data folder " + s.dir + ": start one with `mailkeep serve`; " +
		"--data-dir names another folder, --url a service elsewhere"
	expect(t, none, "provider", "list", "--data-dir", s.dir)
	// What a killed service leaves behind is not trusted.
	if err := os.WriteFile(address, left, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, none, "provider", "list", "--data-dir", s.dir)
	expect(t, "nothing answers at "+s.app.URL()+": is `mailkeep serve` running? --url names a service elsewhere, "+
		"--data-dir the data folder of one on this machine", "provider", "list", "--data-dir", s.dir, "--url", s.app.URL())
}

func TestDataFolder(t *testing.T) {
	dir := t.TempDir()
	held, err := datadir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	if err := os.WriteFile(filepath.Join(dir, app.AddressFile), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, dir+"/address must be an address such as http://127.0.0.1:8080 or https://mail.example.com",
		"provider", "list", "--data-dir", dir)
	expect(t, dir+"/admin.token does not exist: --token-file names the file with the token, MAILKEEP_TOKEN has the token itself",
		"provider", "list", "--data-dir", dir, "--url", "http://127.0.0.1:1")
}

func TestToken(t *testing.T) {
	s := startService(t, nil)
	file := writeFile(t, "token", []byte("not-the-token-not-the-token-not-the-token\n"))
	const invalid = "token is invalid or expired (AUTH-7fs1e)"

	expect(t, invalid, "provider", "list", "--data-dir", s.dir, "--token-file", file)
	t.Setenv("MAILKEEP_TOKEN", "something-else")
	expect(t, invalid, "provider", "list", "--data-dir", s.dir)
	// A file named on the command line wins.
	if got := s.run(t, "", "provider", "list", "--token-file", filepath.Join(s.dir, app.AdminTokenFile)); got.status != 0 {
		t.Error(got.err)
	}
	t.Setenv("MAILKEEP_TOKEN", "with space")
	expect(t, "MAILKEEP_TOKEN does not have a token: it must be printable ASCII without spaces", "provider", "list", "--data-dir", s.dir)
	t.Setenv("MAILKEEP_TOKEN", "")
	t.Setenv("MAILKEEP_TOKEN_FILE", file)
	expect(t, invalid, "provider", "list", "--data-dir", s.dir)

	empty := writeFile(t, "empty", []byte("\n"))
	expect(t, empty+" does not have a token: it must be printable ASCII without spaces",
		"provider", "list", "--data-dir", s.dir, "--token-file", empty)
	expect(t, "/nowhere does not exist: --token-file names the file with the token, MAILKEEP_TOKEN has the token itself",
		"provider", "list", "--data-dir", s.dir, "--token-file", "/nowhere")
}

func TestRolesAreTheTokens(t *testing.T) {
	s := startService(t, nil)
	made := s.run(t, "", "token", "create", "viewer", "--role", "IAM_OWNER_VIEWER")
	viewer := writeFile(t, "token", []byte(made.out))
	if got := s.run(t, "", "provider", "list", "--token-file", viewer); got.status != 0 {
		t.Error(got.err)
	}
	expect(t, "no permission for this method (AUTH-5mWD2)",
		"provider", "remove", "1", "--yes", "--data-dir", s.dir, "--token-file", viewer)
}

func TestTLS(t *testing.T) {
	ca, err := smtptest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s := startService(t, withTLS(t, ca))
	expect(t, s.app.URL()+": tls: failed to verify certificate: x509: certificate signed by unknown authority; "+
		"--ca-file names a certificate authority to trust", "provider", "list", "--data-dir", s.dir)

	file := writeFile(t, "ca.pem", ca.PEM())
	if got := s.run(t, "", "provider", "list", "--ca-file", file); got.status != 0 {
		t.Error(got.err)
	}
	t.Setenv("MAILKEEP_CLIENT_CA_FILE", file)
	if got := s.run(t, "", "provider", "list"); got.status != 0 {
		t.Error(got.err)
	}
	expect(t, "--ca-file: open /nowhere: no such file or directory",
		"provider", "list", "--data-dir", s.dir, "--ca-file", "/nowhere")
}

// The data folder's token is for the service on this machine, and no token crosses the network
// readable, unless somebody says so.
func TestWhereTokensGo(t *testing.T) {
	s := startService(t, nil)
	file := writeFile(t, "token", []byte("some-token"))
	list := []string{"provider", "list", "--data-dir", s.dir, "--timeout", "1ns", "--url"}

	expect(t, "the token for mail.example.com is missing: --token-file names a file with it, MAILKEEP_TOKEN has the "+
		"token itself (the data folder's is for the service on this machine)", append(list, "https://mail.example.com")...)
	expect(t, "--url: the token would cross the network readable, over plain http to mail.example.com; use https, "+
		"or --insecure if the way there is safe", append(list, "http://mail.example.com", "--token-file", file)...)
	for _, to := range []string{"http://user:c4n4ry@127.0.0.1", "https://mail.example.com?c4n4ry", "https://mail.example.com#c4n4ry"} {
		expect(t, "--url must be an address without user, query and fragment", append(list, to)...)
	}
	for _, to := range []string{"mail.example.com", "ftp://mail.example.com", "http://", "http://c4n4ry\x00"} {
		expect(t, "--url must be an address such as http://127.0.0.1:8080 or https://mail.example.com", append(list, to)...)
	}
	// These get as far as the call, which has no time.
	for _, to := range []string{"https://mail.example.com", "http://[::ffff:127.0.0.1]:1", "http://127.1.2.3:1", "http://LOCALHOST:1"} {
		expect(t, "the service did not answer in time; --timeout allows more", append(list, to, "--token-file", file)...)
	}
	expect(t, "the service did not answer in time; --timeout allows more",
		append(list, "http://mail.example.com", "--token-file", file, "--insecure")...)
}

func TestWhatIsSent(t *testing.T) {
	var seen []*http.Request
	status, kind := http.StatusNotFound, "text/html"
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed a redirect") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r)
		w.Header().Set("Location", elsewhere.URL)
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
	}))
	defer server.Close()
	file := writeFile(t, "token", []byte(" some-token\n"))

	expect(t, server.URL+": answered 404 Not Found with no message of the API; is this mailkeep?", "provider", "list", "--url", server.URL+"/below/", "--token-file", file)
	kind = "application/json"
	for _, status = range []int{http.StatusTemporaryRedirect, http.StatusPermanentRedirect, http.StatusFound} {
		expect(t, fmt.Sprintf("%d %s", status, http.StatusText(status)), "provider", "list", "--url", server.URL, "--token-file", file)
	}
	r := seen[0]
	if r.URL.Path != "/below/zitadel.admin.v1.AdminService/ListEmailProviders" {
		t.Error(r.URL.Path)
	}
	if got := r.Header.Values("Authorization"); len(got) != 1 || got[0] != "Bearer some-token" {
		t.Error(got)
	}
	if got := r.UserAgent(); got != "mailkeep-cli/"+buildVersion() {
		t.Error(got)
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	file := writeFile(t, "token", []byte("some-token"))
	started := time.Now()
	expect(t, "the service did not answer in time; --timeout allows more",
		"provider", "list", "--url", server.URL, "--token-file", file, "--timeout", "50ms")
	if took := time.Since(started); took > 5*time.Second {
		t.Error("took", took)
	}
}
