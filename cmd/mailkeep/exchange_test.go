package main

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/mailkeep/mailkeep/gen/mailkeep/v1/mailkeepv1connect"
	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
)

// startFake starts a fake with a script.
func startFake(t *testing.T, answers ...any) *fake {
	t.Helper()
	s := &script{answers: answers}
	f := &fake{messageFake: messageFake{script: s}, credentialFake: credentialFake{script: s}}
	server := connect.NewServer()
	mailkeepv1connect.RegisterMessageServiceHandler(server, f.messageFake)
	mailkeepv1connect.RegisterProviderServiceHandler(server, f.credentialFake)
	mailkeepv1connect.RegisterAuditServiceHandler(server, auditFake{script: s})
	adminv1connect.RegisterAdminServiceHandler(server, f)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server)
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	f.url, f.token = web.URL, writeFile(t, "token", []byte("some-token"))
	return f
}

// args are a command line that reaches the fake. Spaces separate arguments, "·" stands for one within.
func (f *fake) args(line string) []string {
	args := strings.Fields(line)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "·", " ")
	}
	return append(args, "--url", f.url, "--token-file", f.token)
}

// exchange is a command, the script that answers it, what it asks and what it prints.
type exchange struct {
	name     string
	args     string
	stdin    string
	answers  []any
	requests []proto.Message
	out      string
	err      string
	status   int
	loose    bool // how wide columns are does not matter
}

var manySpaces = regexp.MustCompile(`  +`)

func (x exchange) check(t *testing.T) {
	t.Helper()
	f := startFake(t, x.answers...)
	got := runWith(t, x.stdin, f.args(x.args)...)
	if x.loose {
		got.out = manySpaces.ReplaceAllString(got.out, "  ")
	}
	if diff := cmp.Diff(result{x.out, x.err, x.status}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("mailkeep %s (-want +got):\n%s", x.args, diff)
	}
	if diff := cmp.Diff(x.requests, f.messageFake.requests, protocmp.Transform()); diff != "" {
		t.Errorf("mailkeep %s asks (-want +got):\n%s", x.args, diff)
	}
	if len(f.messageFake.answers) > 0 {
		t.Errorf("mailkeep %s left %d answers", x.args, len(f.messageFake.answers))
	}
}
