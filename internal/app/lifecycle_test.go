package app_test

import (
	"context"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"

	healthv1 "github.com/mailkeep/mailkeep/gen/grpc/health/v1"
	"github.com/mailkeep/mailkeep/gen/grpc/health/v1/healthv1connect"
	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// TestRestart wants everything back after a stop, and nobody else let in meanwhile.
func TestRestart(t *testing.T) {
	c := config(t)
	server := inbox(t, "p1")
	s := start(t, c)
	id := s.addProvider(t, server.Addr(), "p1")
	if _, err := app.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), c.DataDir) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second process: %v", err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, c)
	s.sendTest(t, id)
	if mails := server.Mails(); len(mails) != 1 || mails[0].Version != 1 {
		t.Errorf("mails: %+v", mails)
	}
}

// TestUnsafeDurability has a store that could lose what it acknowledged: refused, or with a warning.
func TestUnsafeDurability(t *testing.T) {
	c := config(t)
	c.StoreSettings = map[string]string{"synchronous": "NORMAL"}
	if _, err := app.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "setting synchronous") {
		t.Errorf("a store with an unsafe setting: %v", err)
	}
	c.UnsafeDurability = true
	const warning = "level=WARN msg=\"unsafe settings"
	if s := start(t, c); !strings.Contains(s.log.String(), warning) {
		t.Error("the log has no warning")
	}
	if s := start(t, config(t)); strings.Contains(s.log.String(), warning) {
		t.Error("the log warns of safe settings")
	}
}

// TestFilesArePrivate looks at every file that the service has made.
func TestFilesArePrivate(t *testing.T) {
	c := config(t)
	s := start(t, c)
	s.addProvider(t, "127.0.0.1:25", "c4n4ry-in-the-database")
	err := filepath.WalkDir(c.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), "c4n4ry") {
			t.Errorf("%s has the password in clear, or %v", path, err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKeysetMustFit starts with the keyset gone, replaced, and named elsewhere.
func TestKeysetMustFit(t *testing.T) {
	c := config(t)
	server := inbox(t, "p1")
	s := start(t, c)
	id := s.addProvider(t, server.Addr(), "p1")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	keyset := filepath.Join(c.DataDir, "keyset.json")
	moved := filepath.Join(t.TempDir(), "keyset.json")
	if err := os.Rename(keyset, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), keyset) || !strings.Contains(err.Error(), "--keyset-file") || !strings.Contains(err.Error(), id) {
		t.Errorf("without the keyset: %v", err)
	}
	foreign := config(t)
	if err := start(t, foreign).stop(); err != nil {
		t.Fatal(err)
	}
	foreignKeyset := filepath.Join(foreign.DataDir, "keyset.json")
	c.KeysetFile = foreignKeyset
	if _, err := app.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), foreignKeyset) {
		t.Errorf("with another keyset: %v", err)
	}
	if err := os.WriteFile(moved+".broken", []byte(`{"key":"c4n4ry"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.KeysetFile = moved + ".broken"
	if _, err := app.Open(t.Context(), c); err == nil || strings.Contains(err.Error(), "c4n4ry") {
		t.Errorf("with a broken keyset: %v", err)
	}
	c.KeysetFile = moved
	start(t, c).sendTest(t, id)
}

// TestRotateKeys is the operation over the API, and a restart with only the new file.
func TestRotateKeys(t *testing.T) {
	c := config(t)
	server := inbox(t, "p1")
	s := start(t, c)
	id := s.addProvider(t, server.Addr(), "p1")
	for range 2 {
		r := s.send(t, s.client(http1), raw{"POST", "/v1/keys/_rotate", nil, "{}"})
		if r.status != 200 || !strings.Contains(r.body, `"resealed":"1"`) {
			t.Fatalf("%d %s", r.status, r.body)
		}
		s.sendTest(t, id)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	start(t, c).sendTest(t, id)
}

// TestRefusedSettings names the flag in each refusal, and leaves nothing open behind it.
func TestRefusedSettings(t *testing.T) {
	busy := start(t, config(t))
	for name, c := range map[string]struct {
		change func(*app.Config)
		want   string
	}{
		"address in use":  {func(c *app.Config) { c.Listen = strings.TrimPrefix(busy.URL(), "http://") }, "--listen"},
		"key without":     {func(c *app.Config) { c.TLSKey = "/nowhere" }, "--tls-cert"},
		"no such cert":    {func(c *app.Config) { c.TLSCert, c.TLSKey = "/nowhere", "/nowhere" }, "--tls-cert"},
		"not an origin":   {func(c *app.Config) { c.CORSOrigins = []string{"console.example"} }, "--cors-origin"},
		"EHLO localhost":  {func(c *app.Config) { c.EHLOName = "localhost" }, "--ehlo-name"},
		"weak token":      {func(c *app.Config) { c.AdminToken = secret.New("weak") }, "--admin-token-file"},
		"no such CA file": {func(c *app.Config) { c.CAFile = "/nowhere" }, "--ca-file"},
	} {
		t.Run(name, func(t *testing.T) {
			config := config(t)
			refused := config
			c.change(&refused)
			if _, err := app.Open(t.Context(), refused); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want %s in it", err, c.want)
			}
			start(t, config) // the folder is free again
		})
	}
}

// TestDrain stops the service during a call: the call finishes, new ones are not taken, and readiness
// has gone first.
func TestDrain(t *testing.T) {
	c := config(t)
	slow, accepted := silentServer(t)
	c.StepTimeout, c.DeliveryTimeout = 500*time.Millisecond, 500*time.Millisecond
	s := start(t, c)
	id := s.addProvider(t, slow, "p1")

	watch, err := healthClient(s).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Receive(); err != nil || first.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("health: %v, %v", first, err)
	}
	called := make(chan reply, 1)
	go func() {
		called <- s.send(t, s.client(http1), raw{"POST", "/admin/v1/email/smtp/" + id + "/_test", nil, `{"receiverAddress":"r@example.com"}`})
	}()
	<-accepted
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	if last, err := watch.Receive(); err != nil || last.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health while draining: %v, %v", last, err)
	}
	if r := <-called; r.status != 503 || !strings.Contains(r.body, "EMAIL-") {
		t.Errorf("the call under way: %d %s", r.status, r.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
	if res, err := http.Get(s.URL() + "/livez"); err == nil {
		_ = res.Body.Close()
		t.Error("still answers")
	}
}

func healthClient(s *service) healthv1connect.HealthClient {
	return healthv1connect.NewHealthClient(connect.NewClient(connecthttp.NewTransport(s.client(http2), s.URL(), connecthttp.WithGRPC())))
}

// TestHealth asks as a gRPC client would, without a token.
func TestHealth(t *testing.T) {
	s := start(t, config(t))
	client := healthClient(s)
	for service, want := range map[string]connect.Code{"": 0, "zitadel.admin.v1.AdminService": 0, "no.such.Service": connect.CodeNotFound} {
		res, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if want == 0 && (err != nil || res.GetStatus() != healthv1.HealthCheckResponse_SERVING) || want != 0 && connect.CodeOf(err) != want {
			t.Errorf("Check %q: %v, %v", service, res, err)
		}
	}
	list, err := client.List(t.Context(), &healthv1.HealthListRequest{})
	if err != nil || len(list.GetStatuses()) != 2 {
		t.Errorf("List: %v, %v", list, err)
	}
}

// TestHealthWatchers opens more watches than are served; those that end make room.
func TestHealthWatchers(t *testing.T) {
	s := start(t, config(t))
	client := healthClient(s)
	watch := func(ctx context.Context) error {
		stream, err := client.Watch(ctx, &healthv1.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Receive()
		}
		return err
	}
	ctx, end := context.WithCancel(t.Context())
	for range 50 {
		if err := watch(ctx); err != nil {
			t.Fatal(err)
		}
	}
	others := healthClient(s) // a connection has 100 streams
	refused := 0
	for range 60 {
		stream, err := others.Watch(ctx, &healthv1.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Receive()
		}
		if connect.CodeOf(err) == connect.CodeResourceExhausted && err != nil {
			refused++
		}
	}
	if refused != 10 {
		t.Errorf("%d of 110 watches are refused, want 10", refused)
	}
	end()
	deadline := time.Now().Add(10 * time.Second)
	for watch(t.Context()) != nil {
		if time.Now().After(deadline) {
			t.Fatal("watches that ended make no room")
		}
	}
}

// TestReflection lists the services and reads our file, without a token.
func TestReflection(t *testing.T) {
	s := start(t, config(t))
	stream := grpcreflect.NewClient(connect.NewClient(connecthttp.NewTransport(s.client(http2), s.URL(), connecthttp.WithGRPC()))).NewStream(t.Context())
	defer stream.Close()
	services, err := stream.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	// Whoever may call a method of these is in TestMatrix and TestOperators, but for what is open to everybody.
	want := map[string]bool{"grpc.health.v1.Health": true}
	for _, m := range methods() {
		want[string(m.Descriptor.Parent().FullName())] = true
	}
	for _, name := range services {
		if !want[string(name)] && !strings.HasPrefix(string(name), "grpc.reflection.") {
			t.Errorf("%s has no methods with a policy", name)
		}
		delete(want, string(name))
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", slices.Sorted(maps.Keys(want)))
	}
	files, err := stream.FileContainingSymbol("zitadel.admin.v1.AdminService")
	if err != nil || len(files) == 0 || files[0].GetPackage() != "zitadel.admin.v1" {
		t.Errorf("file: %v, %v", files, err)
	}
}

// TestCompatibleBinding has the setting arrive at the domain.
func TestCompatibleBinding(t *testing.T) {
	c := config(t)
	c.Binding = emailprovider.Compatible
	s := start(t, c)
	id := s.addProvider(t, "127.0.0.1:25", "p1")
	r := s.send(t, s.client(http1), raw{"PUT", "/admin/v1/email/smtp/" + id, nil, `{"senderAddress":"s@example.com","senderName":"S","host":"127.0.0.1:26","user":"` + user + `"}`})
	if r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}
