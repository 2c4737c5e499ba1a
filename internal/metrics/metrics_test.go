package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

var noon = time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)

// full returns metrics in which there is something of everything.
func full(read func(context.Context) (State, error)) *Metrics {
	m := New()
	m.Ended(Call{Method: "/a.B/C", Protocol: "rest", Code: "ok", Deprecated: true}, time.Millisecond)
	m.Ended(Call{Protocol: "http", Code: "unimplemented"}, time.Second)
	m.Ended(Call{Method: "/a.B/C", Protocol: "grpc", Code: "permission_denied"}, time.Minute)
	m.Settled("delivered")
	m.Committed(3)
	m.Watch(read, noon.Add(time.Hour), func() time.Time { return noon })
	return m
}

func someState(context.Context) (State, error) {
	return State{
		Queued: 3, Sending: 1, Oldest: noon.Add(-90 * time.Second), BreakersOpen: 2,
		TokenExpires: noon.Add(time.Minute), MailCertExpires: noon.Add(-time.Minute),
	}, nil
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(full(someState).Gatherer())
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// scrape returns what a scrape is answered, by the names of the series.
func scrape(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			all[line[:i]] = strings.TrimSpace(line[i+1:])
		}
	}
	return all
}

func TestScrape(t *testing.T) {
	got := scrape(t, full(someState))
	for series, want := range map[string]string{
		`mailkeep_calls_total{code="ok",method="/a.B/C",protocol="rest"}`:               "1",
		`mailkeep_calls_total{code="unimplemented",method="unknown",protocol="http"}`:   "1",
		`mailkeep_call_duration_seconds_bucket{method="/a.B/C",protocol="rest",le="1"}`: "1",
		`mailkeep_call_duration_seconds_bucket{method="/a.B/C",protocol="grpc",le="1"}`: "0",
		`mailkeep_denied_calls_total{code="permission_denied"}`:                         "1",
		`mailkeep_denied_calls_total{code="unauthenticated"}`:                           "0",
		`mailkeep_deprecated_calls_total{method="/a.B/C"}`:                              "1",
		`mailkeep_deliveries_total{outcome="delivered"}`:                                "1",
		`mailkeep_commit_batch_size_sum`:                                                "3",
		`mailkeep_queue_mails{state="queued"}`:                                          "3",
		`mailkeep_queue_mails{state="sending"}`:                                         "1",
		`mailkeep_queue_oldest_age_seconds`:                                             "90",
		`mailkeep_breakers_open`:                                                        "2",
		`mailkeep_token_expiry_seconds`:                                                 "60",
		`mailkeep_certificate_expiry_seconds{of="service"}`:                             "3600",
		`mailkeep_certificate_expiry_seconds{of="mail_servers"}`:                        "-60",
	} {
		if got[series] != want {
			t.Errorf("%s is %q, want %s", series, got[series], want)
		}
	}
}

// TestDatabaseAway has what needs no database all the same, and asks it no more often than it must.
func TestDatabaseAway(t *testing.T) {
	reads, away := 0, true
	m := full(func(ctx context.Context) (State, error) {
		reads++
		if away {
			return State{}, errors.New("away")
		}
		return someState(ctx)
	})
	if got := scrape(t, m); got[`mailkeep_denied_calls_total{code="permission_denied"}`] != "1" || got["mailkeep_breakers_open"] != "" {
		t.Errorf("while it is away: %v", got)
	}
	away = false
	for range 3 {
		if got := scrape(t, m); got["mailkeep_breakers_open"] != "2" {
			t.Errorf("it is there again: %v", got)
		}
	}
	if reads != 2 {
		t.Errorf("%d reads for 4 scrapes at once", reads)
	}
}

// TestEndedIsCheap: it is on the way of each call.
func TestEndedIsCheap(t *testing.T) {
	m := New()
	c := Call{Method: "/a.B/C", Protocol: "connect", Code: "permission_denied", Deprecated: true}
	if n := testing.AllocsPerRun(1000, func() { m.Ended(c, time.Millisecond) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEndedTogether(t *testing.T) {
	m := New()
	var all sync.WaitGroup
	const callers, kinds, each = 8, 20, 50
	for range callers {
		all.Go(func() {
			for n := range kinds * each {
				m.Ended(Call{Method: fmt.Sprint(n % kinds), Code: "ok"}, 0)
			}
		})
	}
	all.Wait()
	got := scrape(t, m)
	for n := range kinds {
		if v := got[fmt.Sprintf(`mailkeep_calls_total{code="ok",method="%d",protocol=""}`, n)]; v != fmt.Sprint(callers*each) {
			t.Errorf("method %d: %s calls", n, v)
		}
	}
}
