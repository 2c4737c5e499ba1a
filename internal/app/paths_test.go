package app

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// asked is a store that keeps what providers it was asked for.
type asked struct {
	Store
	ids *[]string
}

// Provider implements emailprovider.Store.
func (a asked) Provider(ctx context.Context, instance, id string) (emailprovider.Provider, error) {
	*a.ids = append(*a.ids, id)
	return a.Store.Provider(ctx, instance, id)
}

// Recent implements emailprovider.Store.
func (a asked) Recent(instance, id string) (emailprovider.Provider, bool) {
	*a.ids = append(*a.ids, id)
	return a.Store.Recent(instance, id)
}

// FuzzPaths: whatever is asked for is answered, never by a failure; and an id that gets as far as the store
// is one segment of the path as it was sent, percent-decoded once, and UTF-8.
func FuzzPaths(f *testing.F) {
	for _, p := range []string{
		"/admin/v1/email/1", "/admin/v1/email/..", "/admin/v1/email/%2e%2e", "/admin/v1/email/..%2Fx", "/admin/v1/email/%252F", "/admin/v1/email/%00",
		"/admin/v1/email/a%2fb", "/admin/v1/email/a+b%20c", "/admin/v1/email/%", "/admin/v1/email/1/", "/admin/v1//email/1",
		"//admin/v1/email/1", "/admin/v1/email/{id}", "/admin/v1/email/1;x=y", "/admin/v1/email/1?id=2", "/admin/v1/email/1#x", "http://h/admin/v1/email/1", "*",
		"/ADMIN/v1/email/1", "/admin/v1/%65mail/1", "/admin%2Fv1/email/1", "/v1/messages/x", "/v1/providers/x/status", "/admin/v1/smtp/x/password",
		"/zitadel.admin.v1.AdminService/GetEmailProvider", "/x.y/z", "/openapi.yaml", "/livez", "/.", "/admin/v1/email/%E2%80%AE", "/admin/v1/email/ü",
	} {
		for _, verb := range []string{"GET", "PUT", "DELETE"} {
			f.Add(verb, p)
		}
	}
	const token = "an-admin-token-that-is-long-enough"
	var ids []string
	a, err := Open(context.Background(), Config{
		Listen: "127.0.0.1:0", DataDir: f.TempDir(), AdminToken: secret.New(token), Log: slog.New(slog.DiscardHandler),
		WrapStore: func(s Store) Store { return asked{s, &ids} },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = a.Close() })
	f.Fuzz(func(t *testing.T, verb, target string) {
		// As the server reads it.
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(verb + " " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			return
		}
		r.Header.Set("Authorization", "Bearer "+token)
		ids = nil
		w := httptest.NewRecorder()
		a.server.Handler.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code >= 500 && w.Code != http.StatusNotImplemented && w.Code != http.StatusHTTPVersionNotSupported || w.Code >= 300 && w.Code < 400 {
			t.Errorf("%s %q: %d %s", verb, target, w.Code, w.Body)
		}
		if verb+target == "GET/admin/v1/email/1" && len(ids) == 0 {
			t.Error("the store was not asked for anything")
		}
		sent := r.URL.EscapedPath()
		for _, id := range ids {
			if !isSegment(sent, id) || path.Clean(sent) != sent || !utf8.ValidString(id) {
				t.Errorf("%s %q: the store was asked for %q", verb, target, id)
			}
		}
	})
}

// isSegment reports whether one of the path's segments is the text, decoded once.
func isSegment(sent, text string) bool {
	for segment := range strings.SplitSeq(sent, "/") {
		if decoded, err := url.PathUnescape(segment); err == nil && decoded == text {
			return true
		}
	}
	return false
}
