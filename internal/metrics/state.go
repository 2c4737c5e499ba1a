package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what is read when somebody asks.
type State struct {
	Queued, Sending int64
	Oldest          time.Time // when the open mail was accepted that has waited longest; zero for none
	BreakersOpen    int64     // of providers' present credentials
	TokenExpires    time.Time // first of all tokens that still work; zero for never
	MailCertExpires time.Time // first of those that mail servers showed for present credentials
}

// stateFor is how long a state is good for, so that scrapes ask little of the database.
const stateFor = time.Second

// stateTimeout bounds reading it.
const stateTimeout = 5 * time.Second

// watched reads a state for scrapes.
type watched struct {
	read        func(context.Context) (State, error)
	certificate time.Time // of the service itself; zero for none
	now         func() time.Time

	mu    sync.Mutex
	at    time.Time
	state State
}

// descriptions of what a state becomes.
var (
	mailsDesc    = prometheus.NewDesc("mailkeep_queue_mails", "Mails that are not settled.", []string{"state"}, nil)
	oldestDesc   = prometheus.NewDesc("mailkeep_queue_oldest_age_seconds", "Age of the mail that has waited longest; 0 if none waits.", nil, nil)
	breakersDesc = prometheus.NewDesc("mailkeep_breakers_open", "Providers whose credential the mail server refuses: their mails wait.", nil, nil)
	tokenDesc    = prometheus.NewDesc("mailkeep_token_expiry_seconds", "Time until the first token expires; absent if none does.", nil, nil)
	certDesc     = prometheus.NewDesc("mailkeep_certificate_expiry_seconds", "Time until the first certificate expires; absent if none is known.", []string{"of"}, nil)
)

// Watch has scrapes read the state. certificate is when that of the service expires; zero for none.
func (m *Metrics) Watch(read func(context.Context) (State, error), certificate time.Time, now func() time.Time) {
	m.registry.MustRegister(&watched{read: read, certificate: certificate, now: now})
}

// Describe implements prometheus.Collector.
func (w *watched) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{mailsDesc, oldestDesc, breakersDesc, tokenDesc, certDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (w *watched) Collect(to chan<- prometheus.Metric) {
	now := w.now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	until := func(d *prometheus.Desc, at time.Time, labels ...string) {
		if !at.IsZero() {
			gauge(d, at.Sub(now).Seconds(), labels...)
		}
	}
	until(certDesc, w.certificate, "service")
	s, err := w.latest(now)
	if err != nil {
		to <- prometheus.NewInvalidMetric(mailsDesc, err)
		return
	}
	gauge(mailsDesc, float64(s.Queued), "queued")
	gauge(mailsDesc, float64(s.Sending), "sending")
	age := 0.0
	if !s.Oldest.IsZero() {
		age = max(0, now.Sub(s.Oldest).Seconds())
	}
	gauge(oldestDesc, age)
	gauge(breakersDesc, float64(s.BreakersOpen))
	until(tokenDesc, s.TokenExpires)
	until(certDesc, s.MailCertExpires, "mail_servers")
}

// latest returns a state that is new enough. An error is not kept.
func (w *watched) latest(now time.Time) (State, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.at.IsZero() && now.Sub(w.at) < stateFor {
		return w.state, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	s, err := w.read(ctx)
	if err == nil {
		w.at, w.state = now, s
	}
	return s, err
}
