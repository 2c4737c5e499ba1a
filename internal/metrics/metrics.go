// Package metrics counts what operators watch, for Prometheus. What it counts has few label values, none of
// which a caller can choose: no instance, token, address or id.
package metrics

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics has a registry of its own. It is safe for concurrent use.
type Metrics struct {
	registry   *prometheus.Registry
	calls      *prometheus.CounterVec
	durations  *prometheus.HistogramVec
	denied     *prometheus.CounterVec
	deprecated *prometheus.CounterVec
	settled    *prometheus.CounterVec
	batches    prometheus.Histogram

	mu     sync.Mutex // to add to series
	series atomic.Pointer[map[Call]*series]
}

// Call is what calls are counted by.
type Call struct {
	Method     string // full name of a method that exists; empty for any other
	Protocol   string
	Code       string
	Deprecated bool
}

// series are what a kind of call adds to, looked up once.
type series struct {
	calls, denied, deprecated prometheus.Counter // the last two nil if it is not that
	duration                  prometheus.Observer
}

// unknown stands for every method that does not exist.
const unknown = "unknown"

// New returns metrics of nothing yet.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailkeep_calls_total", Help: "Calls that have ended.",
		}, []string{"method", "protocol", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mailkeep_call_duration_seconds", Help: "How long calls took, streams to their end.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30},
		}, []string{"method", "protocol"}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailkeep_denied_calls_total", Help: "Calls that were refused for who made them.",
		}, []string{"code"}),
		deprecated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailkeep_deprecated_calls_total", Help: "Calls of deprecated methods.",
		}, []string{"method"}),
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mailkeep_deliveries_total", Help: "What came of sending mails through this process.",
		}, []string{"outcome"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mailkeep_commit_batch_size", Help: "How many writes shared a commit.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
	}
	m.series.Store(&map[Call]*series{})
	m.registry.MustRegister(m.calls, m.durations, m.denied, m.deprecated, m.settled, m.batches,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, code := range deniedCodes {
		m.denied.WithLabelValues(code)
	}
	return m
}

// deniedCodes are those of calls that were refused for who made them.
var deniedCodes = []string{"unauthenticated", "permission_denied"}

// Ended counts a call.
func (m *Metrics) Ended(c Call, took time.Duration) {
	s := (*m.series.Load())[c]
	if s == nil {
		s = m.add(c)
	}
	s.calls.Inc()
	s.duration.Observe(took.Seconds())
	if s.denied != nil {
		s.denied.Inc()
	}
	if s.deprecated != nil {
		s.deprecated.Inc()
	}
}

// add makes the series of a kind of call. The map is replaced, so that nobody has to lock it.
func (m *Metrics) add(c Call) *series {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := *m.series.Load()
	if s := known[c]; s != nil {
		return s
	}
	method := c.Method
	if method == "" {
		method = unknown
	}
	s := &series{calls: m.calls.WithLabelValues(method, c.Protocol, c.Code), duration: m.durations.WithLabelValues(method, c.Protocol)}
	for _, code := range deniedCodes {
		if c.Code == code {
			s.denied = m.denied.WithLabelValues(code)
		}
	}
	if c.Deprecated {
		s.deprecated = m.deprecated.WithLabelValues(method)
	}
	more := maps.Clone(known)
	more[c] = s
	m.series.Store(&more)
	return s
}

// Settled counts what came of a delivery; the outcome is one of a few.
func (m *Metrics) Settled(outcome string) { m.settled.WithLabelValues(outcome).Inc() }

// Committed counts a commit that so many writes shared.
func (m *Metrics) Committed(writes int) { m.batches.Observe(float64(writes)) }

// Handler answers scrapes. What can't be read is left out, and counted as an error of the scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Gatherer returns the registry, for tests.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }
