package app_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/method"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const adminToken = "an-admin-token-that-is-long-enough"

// user is the account at the mail servers of the tests.
const user = "mailkeep"

// atLength is short, or full when the promises are proved at full length.
func atLength(short, full int) int {
	if os.Getenv("MAILKEEP_PROVE") != "" { // task prove
		return full
	}
	return short
}

// service is the whole program, running.
type service struct {
	*app.App
	t     testing.TB
	roots *x509.CertPool
	log   *logBuffer
	stop  func() error
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	out strings.Builder
}

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// config is what tests start with.
func config(t testing.TB) app.Config {
	return app.Config{
		Listen: "127.0.0.1:0", DataDir: filepath.Join(t.TempDir(), "data"), AdminToken: secret.New(adminToken),
		DrainTimeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
}

// start runs the service until the test ends.
func start(t testing.TB, c app.Config) *service {
	t.Helper()
	s := &service{t: t, log: &logBuffer{}}
	c.Log = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	if s.App, err = app.Open(ctx, c); err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	return s
}

// startTLS runs the service with a certificate of its own authority.
func startTLS(t *testing.T, c app.Config) *service {
	t.Helper()
	ca, err := smtptest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Loopback()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c.TLSCert, c.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, c.TLSCert, "CERTIFICATE", cert.Certificate[0])
	writePEM(t, c.TLSKey, "PRIVATE KEY", key)
	s := start(t, c)
	s.roots = ca.Pool()
	return s
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// inbox starts a mail server that demands AUTH; its account has the password, as version 1.
func inbox(t testing.TB, password string) *smtptest.Server {
	t.Helper()
	server, err := smtptest.Start(smtptest.Options{DemandAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	server.SetPassword(user, password)
	return server
}

// httpVersion is how a client speaks HTTP.
type httpVersion string

const (
	http1 httpVersion = "h1"
	http2 httpVersion = "h2" // by prior knowledge without TLS, by ALPN with it
)

// client returns an HTTP client for one version, and fails the test if an answer comes in another.
func (s *service) client(v httpVersion) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(v == http1)
	protocols.SetHTTP2(v == http2)
	protocols.SetUnencryptedHTTP2(v == http2)
	transport := &http.Transport{
		Protocols: protocols, DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: s.roots},
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: 20 * time.Second, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := transport.RoundTrip(r)
		if err == nil && (res.ProtoMajor == 2) != (v == http2) {
			s.t.Errorf("answered in %s, want %s", res.Proto, v)
		}
		return res, err
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var methods = sync.OnceValue(func() map[string]*method.Method {
	set, err := app.Methods()
	if err != nil {
		panic(err)
	}
	byName := map[string]*method.Method{}
	for _, m := range set {
		byName[m.Name] = m
	}
	return byName
})

// message returns a message of the named type with the content of a JSON text.
func message(t *testing.T, name, text string) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByURL(name)
	if err != nil {
		t.Fatal(err)
	}
	m := kind.New().Interface()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%s as %s: %v", text, name, err)
	}
	return m
}

// fields is a message as its JSON.
type fields map[string]any

func fieldsOf(t *testing.T, m proto.Message) fields {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var f fields
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// at returns what is at a path of keys, nil if nothing is.
func (f fields) at(path ...string) any {
	var here any = map[string]any(f)
	for _, key := range path {
		object, ok := here.(map[string]any)
		if !ok {
			return nil
		}
		here = object[key]
	}
	return here
}

// silentServer accepts connections and says nothing; accepted has the first of them.
func silentServer(t *testing.T) (addr string, accepted <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			first <- conn
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		select {
		case conn := <-first:
			_ = conn.Close()
		default:
		}
	})
	return l.Addr().String(), first
}
