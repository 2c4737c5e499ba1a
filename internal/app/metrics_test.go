package app_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

// scrape returns the series of a service by their names, and all of the text.
func (s *service) scrape(t *testing.T) (series map[string]string, text string) {
	t.Helper()
	res, err := http.Get("http://" + s.AdminAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", res.Status, err)
	}
	series = map[string]string{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok {
			series[name+"}"] = value
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			series[name] = value
		}
	}
	return series, string(body)
}

// TestMetrics compares what is scraped with what was done.
func TestMetrics(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { checkMetrics(t, config(t)) })
	t.Run("PostgreSQL", func(t *testing.T) {
		checkMetrics(t, replica(t, pgtest.Database(t), filepath.Join(t.TempDir(), "keyset.json")))
	})
}

func checkMetrics(t *testing.T, c app.Config) {
	c.AdminListen, c.VerifyCompatible = "127.0.0.1:0", emailprovider.VerifyOff
	f := &full{config: c, inbox: inbox(t, "p1")}
	f.service = start(t, c)
	f.provider = f.addProvider(t, f.inbox.Addr(), "p1")
	f.sendMail(t)
	if _, err := f.inbox.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	f.createToken(t, `{"name":"short","roles":["IAM_OWNER_VIEWER"],"lifetime":"600s"}`)
	viewer, _ := f.createToken(t, `{"name":"viewer","roles":["IAM_OWNER_VIEWER"]}`)
	client := f.client(http1)
	do := func(n int, verb, path, token, body string) {
		for range n {
			f.send(t, client, raw{verb, path, map[string]string{"Authorization": "Bearer " + token}, body})
		}
	}
	do(3, "GET", "/admin/v1/email/"+f.provider, adminToken, "")
	do(2, "GET", "/admin/v1/smtp/"+f.provider, adminToken, "")
	do(4, "POST", "/v1/tokens", viewer, `{"name":"c4n4ry"}`)
	do(5, "GET", "/admin/v1/email", "c4n4ry", "")
	do(6, "GET", "/c4n4ry", adminToken, "")
	do(1, "POST", "/zitadel.admin.v1.AdminService/C4n4ry", adminToken, "{}")
	f.setPassword(t, "wrong")
	for range 3 {
		f.sendMail(t)
	}
	const admin = `method="/zitadel.admin.v1.AdminService/`
	want := map[string]string{
		`mailkeep_calls_total{code="ok",` + admin + `GetEmailProviderById",protocol="rest"}`:                            "3",
		`mailkeep_calls_total{code="ok",` + admin + `GetSMTPConfigById",protocol="rest"}`:                               "2",
		`mailkeep_calls_total{code="permission_denied",method="/mailkeep.v1.TokenService/CreateToken",protocol="rest"}`: "4",
		`mailkeep_calls_total{code="unauthenticated",` + admin + `GetEmailProvider",protocol="rest"}`:                   "5",
		`mailkeep_calls_total{code="unimplemented",method="unknown",protocol="http"}`:                                   "7",
		`mailkeep_call_duration_seconds_count{` + admin + `GetEmailProviderById",protocol="rest"}`:                      "3",
		`mailkeep_denied_calls_total{code="permission_denied"}`:                                                         "4",
		`mailkeep_denied_calls_total{code="unauthenticated"}`:                                                           "5",
		`mailkeep_deprecated_calls_total{` + admin + `GetSMTPConfigById"}`:                                              "2",
		`mailkeep_deliveries_total{outcome="delivered"}`:                                                                "1",
		`mailkeep_queue_mails{state="queued"}`:                                                                          "3",
		`mailkeep_queue_mails{state="sending"}`:                                                                         "0",
		`mailkeep_breakers_open`:                                                                                        "1",
	}
	wrong := map[string]string{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(wrong)
		}
	})
	eventually(t, 30*time.Second, "the metrics are what was done", func() bool {
		series, text := f.scrape(t)
		clear(wrong)
		for name, value := range want {
			if series[name] != value {
				wrong[name] = fmt.Sprintf("%q, want %s", series[name], value)
			}
		}
		for _, name := range []string{"mailkeep_token_expiry_seconds", "mailkeep_commit_batch_size_count", `mailkeep_deliveries_total{outcome="retried"}`} {
			if series[name] == "" {
				wrong[name] = "missing"
			}
		}
		for _, chosen := range []string{"c4n4ry", f.provider, adminToken} {
			if strings.Contains(strings.ToLower(text), chosen) {
				t.Fatalf("the metrics have what a caller has chosen:\n%s", text)
			}
		}
		return len(wrong) == 0
	})
}
