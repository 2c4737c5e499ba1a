//go:build !race

package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/health"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/limit"
)

// mostAllocations is what a read over Connect JSON may take without net/http and a store, with a little to
// spare for pools that are emptied meanwhile.
const mostAllocations = 76

// oneOfEach is a store with one instance, one token and one provider in it.
type oneOfEach struct{ Store }

func (oneOfEach) Instances(context.Context) ([]instance.Instance, uint64, error) {
	return []instance.Instance{{ID: instance.Default}}, 1, nil
}

func (oneOfEach) TokenByHash(context.Context, [32]byte) (auth.Token, error) {
	return auth.Token{Instance: instance.Default, ID: "t", Name: "operator", Roles: adminRoles}, nil
}

func (oneOfEach) Provider(_ context.Context, of, id string) (emailprovider.Provider, error) {
	now := time.Now()
	return emailprovider.Provider{
		Instance: of, ID: id, Sequence: 1, Description: "Production relay", Created: now, Changed: now, SMTP: &relay,
	}, nil
}

var (
	adminRoles = []string{"IAM_OWNER"}
	relay      = emailprovider.SMTP{
		SenderAddress: "noreply@example.com", SenderName: "Example", Host: "smtp.example.com:587", TLS: true,
		User: "mailer@example.com", Auth: emailprovider.AuthPlain,
	}
)

// nowhere is an answer that nobody reads.
type nowhere struct {
	header http.Header
	status int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(code int)        { n.status = code }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }

// TestAllocations: a read takes no more than it did, from the server's handler to the store and back.
func TestAllocations(t *testing.T) {
	store, log := oneOfEach{}, slog.New(slog.NewJSONHandler(io.Discard, nil))
	tenants, err := instance.NewService(t.Context(), instance.Config{Store: store, Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := newHandler(Config{Log: log}, domains{
		instances: tenants, tokens: auth.NewService(store, nil, time.Now), health: health.NewService(nil),
		providers: emailprovider.NewService(emailprovider.Config{Store: store, Log: log}),
		limits:    limit.NewCalls(limit.Config{Policies: limit.Everybody{}, InFlight: 100, FailuresByRemote: 10, Now: time.Now}),
	})
	if err != nil {
		t.Fatal(err)
	}
	heavier := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.Clone(r.Context()))
	})
	got, control := allocations(t, handler), allocations(t, heavier)
	t.Logf("REL allocations of=read most=%d got=%.0f control=%.0f", mostAllocations, got, control)
	if got > mostAllocations {
		t.Errorf("a read takes %.0f allocations, more than %d", got, mostAllocations)
	}
	if control <= mostAllocations {
		t.Errorf("a copy of the request is not noticed: %.0f allocations", control)
	}
}

// allocations returns those of a read.
func allocations(t *testing.T, h http.Handler) float64 {
	const body = `{"id":"123456789012345678"}`
	text := strings.NewReader(body)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/zitadel.admin.v1.AdminService/GetEmailProviderById", text)
	r.Header.Set("Authorization", "Bearer a-token-that-is-long-enough-for-anybody")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "test")
	return testing.AllocsPerRun(200, func() {
		text.Reset(body)
		w := &nowhere{header: http.Header{}}
		h.ServeHTTP(w, r)
		if w.status > http.StatusOK {
			t.Fatalf("answered %d", w.status)
		}
	})
}
