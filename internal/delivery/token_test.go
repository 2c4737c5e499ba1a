package delivery_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

func xoauth2Route(addr, endpoint string) emailprovider.Route {
	via := withPassword(plainRoute(addr))
	via.SMTP.Auth = emailprovider.AuthXOAuth2
	via.SMTP.XOAuth2 = emailprovider.XOAuth2{TokenEndpoint: endpoint, ClientID: "client+id", Scopes: []string{"mail", "send"}}
	return via
}

// TestToken gets a token from a real endpoint and uses it.
func TestToken(t *testing.T) {
	const token = "bearer.t0ken-canary"
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, key, _ := r.BasicAuth()
		if id != "client%2Bid" || key != "c4n4ry+p%C3%A4ss%2B%2F%3Dw%C3%B6rd" || r.FormValue("grant_type") != "client_credentials" ||
			r.FormValue("scope") != "mail send" || r.Method != http.MethodPost {
			t.Errorf("%s %q %q %v", r.Method, id, key, r.Form)
		}
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token)
	})
	plainEndpoint, tlsEndpoint := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plainEndpoint.Close()
	defer tlsEndpoint.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tlsEndpoint.Certificate().Raw})
	if err := os.WriteFile(file, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	roots, err := delivery.Roots(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []*httptest.Server{plainEndpoint, tlsEndpoint} {
		s := startServer(t, smtptest.Options{Mechanisms: []string{"PLAIN", "XOAUTH2"}, DemandAuth: true})
		s.SetPassword(user, token)
		if err := deliver(t, delivery.Options{Roots: roots}, xoauth2Route(s.Addr(), endpoint.URL)); err != nil {
			t.Errorf("%s: %v", endpoint.URL, err)
		}
		if a := s.Attempts(); len(a) != 1 || a[0].Mechanism != "XOAUTH2" || !a[0].OK {
			t.Errorf("%v", a)
		}
	}
	h := startHostile(t, smtptest.Script{AuthOffer: "XOAUTH2", Answers: map[string]smtptest.Answer{
		smtptest.Auth: smtptest.Say("535 no: " + token + "\r\n"),
	}})
	e := failed(t, deliver(t, delivery.Options{}, xoauth2Route(h.Addr(), plainEndpoint.URL)))
	if e.Step != emailprovider.StepAuth || e.Text != "no: [redacted]" {
		t.Errorf("%+v", e)
	}
}

func TestTokenFailures(t *testing.T) {
	elsewhereHit := false
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhereHit = true }))
	defer target.Close()
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	for name, c := range map[string]struct {
		handler   http.HandlerFunc
		text      string
		temporary bool
	}{
		"refused":    {status(401, `{"error":"invalid_client"}`), "from the token endpoint invalid_client", false},
		"echo":       {status(400, `{"error":"`+strings.Trim(fmt.Sprintf("%q", password), `"`)+`"}`), "from the token endpoint [redacted]", false},
		"overloaded": {status(503, "try later"), "from the token endpoint", true},
		"too many":   {status(429, ""), "from the token endpoint", true},
		"no token":   {status(200, `{"error":"x"}`), "has no access_token", false},
		"not JSON":   {status(200, `<html>`), "has no access_token", false},
		"not Bearer": {status(200, `{"access_token":"a","token_type":"DPoP"}`), "token_type is not Bearer", false},
		"control":    {status(200, `{"access_token":"a\u0001b"}`), "control character", false},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		}, "from the token endpoint", false},
		"endless":     {endlessBody, "has no access_token", false},
		"silent":      {silentEndpoint, "timed out", true},
		"hangs up":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "connection closed", true},
		"long header": {longHeader, "network error", true},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := httptest.NewServer(c.handler)
			defer endpoint.Close()
			h := startHostile(t, smtptest.Script{AuthOffer: "XOAUTH2"})
			o := delivery.Options{Tokens: &delivery.TokenClient{Timeout: 300 * time.Millisecond}}
			e := failed(t, deliver(t, o, xoauth2Route(h.Addr(), endpoint.URL)))
			if e.Step != emailprovider.StepToken || e.Temporary != c.temporary || !strings.Contains(e.Text, c.text) || (e.Code != 0) != strings.HasPrefix(c.text, "from the") {
				t.Errorf("%+v", e)
			}
		})
	}
	if elsewhereHit {
		t.Error("a redirect was followed")
	}
}

// TestTokenEndpointInClear: the client secret stays here.
func TestTokenEndpointInClear(t *testing.T) {
	asked := false
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer endpoint.Close()
	for _, url := range []string{"http://token.example.com/", "ftp://token.example.com/", "//token.example.com", "http:", "%"} {
		h := startHostile(t, smtptest.Script{AuthOffer: "XOAUTH2"})
		o := delivery.Options{Tokens: &delivery.TokenClient{Dialer: redirect{endpoint.Listener.Addr().String(), elsewhere}}}
		e := failed(t, deliver(t, o, xoauth2Route(h.Addr(), url)))
		if e.Step != emailprovider.StepToken || e.Temporary || asked {
			t.Errorf("%s: %+v", url, e)
		}
	}
}

// silentEndpoint waits for the client to go, which the server notices only once it has read the request.
func silentEndpoint(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func endlessBody(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(make([]byte, 32<<10)); err != nil {
			return
		}
	}
}

func longHeader(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X", strings.Repeat("x", 1<<20))
	w.WriteHeader(http.StatusOK)
}
