// Package health says whether the service can work: to load balancers over HTTP, to gRPC clients
// with grpc.health.v1.
package health

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"

	healthv1 "github.com/mailkeep/mailkeep/gen/grpc/health/v1"
	"github.com/mailkeep/mailkeep/gen/grpc/health/v1/healthv1connect"
)

// watchInterval is how often a watched status is looked at.
const watchInterval = 2 * time.Second

// maxWatchers bounds the watches at one time: nobody needs a token for one.
const maxWatchers = 100

// Service implements grpc.health.v1.Health. It serves from the start until Drain.
type Service struct {
	services []string // that can be asked for by name; the empty name is the whole
	check    func(ctx context.Context) error

	watchers atomic.Int64
	draining chan struct{}
	once     sync.Once
}

var _ healthv1connect.HealthHandler = (*Service)(nil)

// NewService returns the health of the named services; check is asked whenever somebody wants to
// know, and returns why they can't work.
func NewService(check func(ctx context.Context) error, services ...string) *Service {
	return &Service{services: append([]string{""}, services...), check: check, draining: make(chan struct{})}
}

// Drain makes the service not ready, for good.
func (s *Service) Drain() { s.once.Do(func() { close(s.draining) }) }

func (s *Service) status(ctx context.Context) healthv1.HealthCheckResponse_ServingStatus {
	select {
	case <-s.draining:
		return healthv1.HealthCheckResponse_NOT_SERVING
	default:
	}
	if s.check(ctx) != nil {
		return healthv1.HealthCheckResponse_NOT_SERVING
	}
	return healthv1.HealthCheckResponse_SERVING
}

// Check implements Health.
func (s *Service) Check(ctx context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if !slices.Contains(s.services, req.GetService()) {
		return nil, connect.NewError(connect.CodeNotFound, "unknown service")
	}
	return &healthv1.HealthCheckResponse{Status: s.status(ctx)}, nil
}

// List implements Health.
func (s *Service) List(ctx context.Context, _ *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	res := &healthv1.HealthListResponse{Statuses: map[string]*healthv1.HealthCheckResponse{}}
	status := s.status(ctx)
	for _, name := range s.services {
		res.Statuses[name] = &healthv1.HealthCheckResponse{Status: status}
	}
	return res, nil
}

// Watch implements Health: the status now, and each time it changes.
func (s *Service) Watch(ctx context.Context, req *healthv1.HealthCheckRequest, stream healthv1connect.HealthWatchServerStream) error {
	if !slices.Contains(s.services, req.GetService()) {
		return stream.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVICE_UNKNOWN})
	}
	defer s.watchers.Add(-1)
	if s.watchers.Add(1) > maxWatchers {
		return connect.NewError(connect.CodeResourceExhausted, "too many watch the health already; use Check")
	}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	sent := healthv1.HealthCheckResponse_UNKNOWN
	for {
		if now := s.status(ctx); now != sent {
			sent = now
			if err := stream.Send(&healthv1.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.draining:
			if sent == healthv1.HealthCheckResponse_NOT_SERVING {
				return nil // ends the call, so that the server can end
			}
		case <-ticker.C:
		}
	}
}

// Live answers GET /livez: the process runs.
func (s *Service) Live(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok\n") }

// Ready answers GET /readyz: 200 while calls can be served, 503 when not or when draining.
func (s *Service) Ready(w http.ResponseWriter, r *http.Request) {
	if s.status(r.Context()) == healthv1.HealthCheckResponse_SERVING {
		answer(w, http.StatusOK, "ok\n")
		return
	}
	answer(w, http.StatusServiceUnavailable, "not ready\n")
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a client that went away has nobody to tell
}
