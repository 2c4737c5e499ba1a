package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/grpcreflect/v2"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mailkeep/mailkeep/gen/grpc/health/v1/healthv1connect"
	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/gen/openapi"
	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
	"github.com/mailkeep/mailkeep/internal/adminrpc"
	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/deprecation"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/health"
	"github.com/mailkeep/mailkeep/internal/httpserver"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/limit"
	"github.com/mailkeep/mailkeep/internal/mailrpc"
	"github.com/mailkeep/mailkeep/internal/method"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/rpc"
)

// services are those whose descriptors carry routes and permissions.
func services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		adminv1.File_zitadel_admin_v1_admin_proto,
		mailkeepv1.File_mailkeep_v1_token_proto,
		mailkeepv1.File_mailkeep_v1_instance_proto,
		mailkeepv1.File_mailkeep_v1_operations_proto,
		mailkeepv1.File_mailkeep_v1_message_proto,
		mailkeepv1.File_mailkeep_v1_provider_proto,
		mailkeepv1.File_mailkeep_v1_audit_proto,
	} {
		for i := range file.Services().Len() {
			all = append(all, file.Services().Get(i))
		}
	}
	return all
}

// Methods returns every method with a permission and a route.
func Methods() (method.Set, error) { return method.Read(services()...) }

// domains are what the handlers call.
type domains struct {
	instances *instance.Service
	providers *emailprovider.Service
	messages  *outbox.Service
	tokens    *auth.Service
	audit     audit.Verifier
	limits    *limit.Calls
	uses      *deprecation.Recorder
	health    *health.Service
	rotate    mailrpc.Rotate
	draining  context.Context // ends when streams must
	calls     func(*rpc.Call, time.Duration)
}

// newHandler returns the handler of the one port.
func newHandler(c Config, d domains) (http.Handler, error) {
	methods, err := Methods()
	if err != nil {
		return nil, err
	}
	server := connect.NewServer(rpc.Interceptors(rpc.Config{
		Methods:     methods,
		Open:        []string{healthv1connect.HealthName, grpcreflect.ReflectV1ServiceName, grpcreflect.ReflectV1AlphaServiceName},
		Instances:   d.instances,
		Tokens:      d.tokens,
		Limits:      d.limits,
		Deprecation: rpc.Deprecation{Uses: d.uses, Sunset: c.Sunset, Refuse: c.RefuseDeprecated},
		Log:         c.Log,
	})...)
	adminv1connect.RegisterAdminServiceHandler(server, adminrpc.NewService(d.providers))
	mailkeepv1connect.RegisterTokenServiceHandler(server, mailrpc.NewTokens(d.tokens, c.Log))
	mailkeepv1connect.RegisterInstanceServiceHandler(server, mailrpc.NewInstances(d.instances, c.Log))
	mailkeepv1connect.RegisterKeyServiceHandler(server, mailrpc.NewKeys(d.rotate))
	mailkeepv1connect.RegisterDeprecationServiceHandler(server, mailrpc.NewDeprecations(d.uses, successors(methods)))
	mailkeepv1connect.RegisterMessageServiceHandler(server, mailrpc.NewMessages(d.messages, d.draining))
	mailkeepv1connect.RegisterProviderServiceHandler(server, mailrpc.NewProviders(d.providers, d.messages, deprecated(methods), c.Now))
	mailkeepv1connect.RegisterAuditServiceHandler(server, mailrpc.NewAudit(d.providers, d.audit, deprecated(methods)))
	healthv1connect.RegisterHealthHandler(server, d.health)
	grpcreflect.Register(server)

	for _, m := range methods {
		if !registered(server, m.Procedure) {
			return nil, errors.New("no handler is registered for " + m.Procedure)
		}
	}
	return httpserver.NewHandler(server, httpserver.Options{
		Methods:     methods,
		CORSOrigins: c.CORSOrigins,
		Log:         c.Log,
		Calls:       d.calls,

		TrustedProxies: c.TrustedProxies,
		Pages: map[string]http.Handler{
			"/livez":        http.HandlerFunc(d.health.Live),
			"/readyz":       http.HandlerFunc(d.health.Ready),
			"/openapi.yaml": document("application/yaml", openapi.YAML),
		},
	}), nil
}

func registered(server *connect.Server, procedure string) bool {
	for spec := range server.Specs() {
		if spec.Procedure == procedure {
			return true
		}
	}
	return false
}

func successors(methods method.Set) map[string]string {
	names := map[string]string{}
	for _, m := range methods {
		if m.Deprecated {
			names[m.Name] = m.Successor.Name
		}
	}
	return names
}

// deprecated tells whether a procedure is deprecated.
func deprecated(methods method.Set) func(procedure string) bool {
	return func(procedure string) bool {
		m := methods[procedure]
		return m != nil && m.Deprecated
	}
}

func document(contentType string, content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(content) // a client that went away has nobody to tell
	})
}
