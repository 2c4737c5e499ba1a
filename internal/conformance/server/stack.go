package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"connectrpc.com/connect/v2"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	"github.com/mailkeep/mailkeep/internal/httpserver"
	"github.com/mailkeep/mailkeep/internal/method"
)

// stack is Mailkeep's HTTP server around rpc, REST routes included. readMax is
// the limit for one received message in bytes, 0 for the service's own.
func stack(rpc *connect.Server, readMax int) (*http.Server, error) {
	routes, err := method.Read(adminv1.File_zitadel_admin_v1_admin_proto.Services().Get(0))
	if err != nil {
		return nil, fmt.Errorf("REST routes: %w", err)
	}
	handler := httpserver.NewHandler(rpc, httpserver.Options{Methods: routes, MaxBytes: readMax, MaxBody: 64 << 20})
	return httpserver.New(handler, slog.New(slog.NewTextHandler(os.Stderr, nil))), nil
}
