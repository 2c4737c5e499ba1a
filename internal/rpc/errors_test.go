package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/method"
)

// TestEveryKindHasACode walks the kinds, so that one added later is not forgotten.
func TestEveryKindHasACode(t *testing.T) {
	seen := map[connect.Code]fault.Kind{}
	for _, kind := range fault.Kinds() {
		code, ok := codes[kind]
		if other, taken := seen[code]; !ok || taken {
			t.Errorf("kind %d has code %v, kind %d too", kind, code, other)
		}
		seen[code] = kind
		err := fromFault(fault.New(kind, "ID-1", "text").Because(errors.New("c4n4ry")))
		if err.Code() != code || err.Message() != "text (ID-1)" || len(err.Details()) != 1 || strings.Contains(err.Message(), "c4n4ry") {
			t.Errorf("kind %d becomes %v with %d details", kind, err, len(err.Details()))
		}
	}
	if len(codes) != len(fault.Kinds()) {
		t.Errorf("%d codes for %d kinds", len(codes), len(fault.Kinds()))
	}
}

// TestReason: machines are given the reason of a failure that has one (google.rpc.ErrorInfo).
func TestReason(t *testing.T) {
	err := fromFault(fault.New(fault.Unavailable, "ID-1", "text").For("OUTCOME_UNKNOWN"))
	if len(err.Details()) != 2 {
		t.Fatalf("%d details, want 2", len(err.Details()))
	}
	var info errdetails.ErrorInfo
	if a := connectproto.ErrorDetailToAny(err.Details()[1]); a.UnmarshalTo(&info) != nil || info.GetReason() != "OUTCOME_UNKNOWN" || info.GetDomain() != "mailkeep" {
		t.Errorf("the second detail is %v", a)
	}
}

// TestWhatCallersAreTold has errors that are nobody's business, and panics.
func TestWhatCallersAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		fail func() error
		code connect.Code
		log  string
	}{
		"unknown error":    {func() error { return errors.New("c4n4ry") }, connect.CodeInternal, "c4n4ry"},
		"wrapped fault":    {func() error { return fmt.Errorf("c4n4ry: %w", fault.New(fault.NotFound, "X", "gone")) }, connect.CodeNotFound, ""},
		"canceled":         {func() error { return fmt.Errorf("c4n4ry: %w", context.Canceled) }, connect.CodeCanceled, ""},
		"deadline":         {func() error { return fmt.Errorf("c4n4ry: %w", context.DeadlineExceeded) }, connect.CodeDeadlineExceeded, ""},
		"panic with text":  {func() error { panic("c4n4ry") }, connect.CodeInternal, "msg=panic"},
		"panic with error": {func() error { panic(errors.New("c4n4ry")) }, connect.CodeInternal, "msg=panic"},
		"index":            {func() error { var s []int; _ = s[len(s)]; return nil }, connect.CodeInternal, "index out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			config := Config{Methods: method.Set{}, Log: slog.New(slog.NewTextHandler(&log, nil))}
			call := &Call{RequestID: "request-1"}
			server := connect.NewServer(config.observe)
			server.Register(connect.Method{Spec: connect.Spec{Procedure: "/p"}, Handler: func(context.Context, connect.Spec, connect.ServerStream) error { return c.fail() }})
			err := server.Call(WithCall(t.Context(), call), "/p", &connect.CallInfo{}, nil)
			if connect.CodeOf(err) != c.code || call.Code != c.code.String() {
				t.Errorf("%v, noted as %s", err, call.Code)
			}
			var told *connect.Error
			if !errors.As(err, &told) || strings.Contains(told.Message(), "c4n4ry") {
				t.Errorf("the caller is told %v", err)
			}
			if c.code == connect.CodeInternal && !strings.Contains(told.Message(), "request-1") {
				t.Errorf("%v does not name the request", err)
			}
			if !strings.Contains(log.String(), c.log) || strings.HasPrefix(name, "panic") && strings.Contains(log.String(), "c4n4ry") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}
