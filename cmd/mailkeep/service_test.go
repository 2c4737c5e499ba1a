package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

func TestMain(m *testing.M) {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "MAILKEEP_") {
			os.Unsetenv(name)
		}
	}
	time.Local = time.FixedZone("", 2*3600+30*60)
	os.Exit(m.Run())
}

// service is a running service, and the mail server that its providers point at.
type service struct {
	dir  string
	app  *app.App
	mail *smtptest.Server
	stop func()
}

// startService runs a service in a folder of its own until the test ends or stop is called.
func startService(t *testing.T, change func(*app.Config)) *service {
	t.Helper()
	mail, err := smtptest.Start(smtptest.Options{Mode: smtptest.StartTLS, DemandAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })
	dir := t.TempDir()
	config := app.Config{
		Listen: "127.0.0.1:0", DataDir: dir, CAFile: writeFile(t, "ca.pem", mail.CA().PEM()),
		Binding: emailprovider.Strict, DrainTimeout: time.Second, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&config)
	}
	a, err := app.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return &service{dir, a, mail, stop}
}

// run runs a command against the service.
func (s *service) run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return runWith(t, stdin, append(args, "--data-dir", s.dir)...)
}

// add adds a provider that points at the mail server and returns its id.
func (s *service) add(t *testing.T, password string) (id string) {
	t.Helper()
	added := s.run(t, password, "provider", "add-smtp", "--host", s.mail.Addr(), "--sender-address", "from@example.com",
		"--sender-name", "From", "--user", "user", "--password-stdin")
	if added.status != 0 {
		t.Fatal(added.err)
	}
	return idPattern.FindString(added.out)
}

type result struct {
	out, err string
	status   int
}

func runWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // some commands wait for something
	defer cancel()
	var out, errs bytes.Buffer
	status := run(ctx, args, streams{strings.NewReader(stdin), &out, &errs})
	return result{out.String(), errs.String(), status}
}

var idPattern = regexp.MustCompile(`\b\d{18}\b`)

func writeFile(t *testing.T, name string, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withTLS makes a service speak TLS with a certificate of ca.
func withTLS(t *testing.T, ca *smtptest.CA) func(*app.Config) {
	t.Helper()
	cert, err := ca.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *app.Config) {
		c.TLSCert = writeFile(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
		c.TLSKey = writeFile(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	}
}
