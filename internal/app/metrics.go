package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/mailkeep/mailkeep/internal/httpserver"
	"github.com/mailkeep/mailkeep/internal/metrics"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// admin is the listener for operators: metrics and health, in plain HTTP.
type admin struct {
	metrics  *metrics.Metrics
	listener net.Listener
	server   *http.Server
}

// listenAdmin listens if the Config says so.
func (a *App) listenAdmin() (err error) {
	c := a.config
	if c.AdminListen == "" {
		return nil
	}
	a.admin.metrics = metrics.New()
	if a.admin.listener, err = net.Listen("tcp", c.AdminListen); err != nil {
		return fmt.Errorf("--admin-listen: %w", err)
	}
	if host, _, _ := net.SplitHostPort(a.AdminAddr()); !net.ParseIP(host).IsLoopback() {
		c.Log.Warn("--admin-listen is beyond this machine: anybody who reaches it can read the metrics", "admin_listen", c.AdminListen)
	}
	return nil
}

// AdminAddr returns where metrics are, empty for nowhere.
func (a *App) AdminAddr() string {
	if a.admin.listener == nil {
		return ""
	}
	return a.admin.listener.Addr().String()
}

// assembleAdmin makes the server once there is something to show.
func (a *App) assembleAdmin() {
	if a.admin.listener == nil {
		return
	}
	var certificate time.Time
	if a.cert != nil && a.cert.Leaf != nil {
		certificate = a.cert.Leaf.NotAfter
	}
	a.admin.metrics.Watch(func(ctx context.Context) (metrics.State, error) {
		s, err := a.db.State(ctx)
		return metrics.State(s), err
	}, certificate, a.config.Now)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.admin.metrics.Handler())
	mux.HandleFunc("GET /livez", a.health.Live)
	mux.HandleFunc("GET /readyz", a.health.Ready)
	a.admin.server = httpserver.New(mux, a.config.Log)
}

// serveAdmin serves until ctx ends.
func (a *App) serveAdmin(ctx context.Context) {
	if a.admin.server == nil {
		return
	}
	if err := httpserver.Serve(ctx, a.admin.server, a.admin.listener, nil, time.Second); err != nil {
		a.config.Log.Error("metrics are not served any more", "err", err)
	}
}

// countCall counts a request that was a call, or wanted to be one.
func countCall(m *metrics.Metrics) func(*rpc.Call, time.Duration) {
	if m == nil {
		return nil
	}
	return func(c *rpc.Call, took time.Duration) {
		if c.Code == "" {
			m.Ended(metrics.Call{Protocol: "http", Code: "unimplemented"}, took)
			return
		}
		m.Ended(metrics.Call{
			Method: c.Procedure, Protocol: c.Protocol, Code: c.Code, Deprecated: c.Method != nil && c.Method.Deprecated,
		}, took)
	}
}

// counting is a queue that counts what becomes of mails.
type counting struct {
	outbox.Queue
	metrics *metrics.Metrics
}

// retried is the outcome of an attempt after which there is another.
const retried = "retried"

// Settle implements outbox.Queue.
func (q counting) Settle(ctx context.Context, settlements []outbox.Settlement) ([]outbox.Lease, error) {
	refused, err := q.Queue.Settle(ctx, settlements)
	if err != nil {
		return refused, err
	}
	lost := map[outbox.Lease]bool{}
	for _, l := range refused {
		lost[l] = true
	}
	for _, s := range settlements {
		switch {
		case lost[s.Lease]:
		case s.State != outbox.Queued:
			q.metrics.Settled(string(s.State))
		case s.Attempt != nil:
			q.metrics.Settled(retried)
		}
	}
	return refused, nil
}

// Expire implements outbox.Queue.
func (q counting) Expire(ctx context.Context, instance string, now time.Time, limit int, keep bool) ([]outbox.Message, error) {
	expired, err := q.Queue.Expire(ctx, instance, now, limit, keep)
	for range expired {
		q.metrics.Settled(string(outbox.Expired))
	}
	return expired, err
}

// queue returns the queue that the worker works on.
func (a *App) queue() outbox.Queue {
	if a.admin.metrics == nil {
		return a.store
	}
	return counting{a.store, a.admin.metrics}
}

// committed returns what is told of commits; nil for nobody.
func (a *App) committed() func(writes int) {
	if a.admin.metrics == nil {
		return nil
	}
	return a.admin.metrics.Committed
}
