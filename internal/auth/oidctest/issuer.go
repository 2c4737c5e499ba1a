// Package oidctest has an OpenID Connect issuer for tests, a real server: discovery, a JWK set with keys
// that rotate, RFC 7662 introspection with client authentication, and revocation. It shares no code with
// what it tests: tokens are signed with package crypto, and JSON is written by hand.
//
// An Issuer can be a process of its own. What a test wants of it, it says over HTTP with a Control.
package oidctest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Issuer is the server.
type Issuer struct {
	http     *http.Server
	listener net.Listener
	id       string // of the client that may introspect
	secret   string

	mu     sync.Mutex
	keys   []*key
	next   int               // number of the next key
	active map[string][]byte // tokens that introspection knows, with their claims
	seen   Counts
	down   bool
	place  int // of the keys
}

// Counts is how often an Issuer was asked.
type Counts struct{ Discovery, Keys, Introspection, Elsewhere int }

// Start starts an Issuer on an address of this machine. Its first keys are rsa1 and ec2. The client may
// introspect.
func Start(address, clientID, clientSecret string) (*Issuer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	i := &Issuer{listener: listener, id: clientID, secret: clientSecret, next: 1, active: map[string][]byte{}}
	for _, kind := range []string{RSA, EC} {
		if _, err := i.add(kind); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys/{place}", i.jwks)
	mux.HandleFunc("POST /introspect", i.introspect)
	mux.HandleFunc("/elsewhere", i.elsewhere)
	mux.HandleFunc("POST /control", i.control)
	i.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = i.http.Serve(listener) }()
	return i, nil
}

// URL is what tokens have as their issuer.
func (i *Issuer) URL() string { return "http://" + i.listener.Addr().String() }

// Close ends the server.
func (i *Issuer) Close() error { return i.http.Close() }

// count counts a request, and refuses it while the issuer is down.
func (i *Issuer) count(w http.ResponseWriter, what func(*Counts) *int) (up bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	*what(&i.seen)++
	if i.down {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	return !i.down
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	if i.count(w, func(c *Counts) *int { return &c.Discovery }) {
		writeJSON(w, map[string]any{
			"issuer": i.URL(), "jwks_uri": i.keysURL(), "introspection_endpoint": i.URL() + "/introspect",
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256", "none"},
		})
	}
}

// keysURL is where the keys are.
func (i *Issuer) keysURL() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return fmt.Sprintf("%s/keys/%d", i.URL(), i.place)
}

func (i *Issuer) jwks(w http.ResponseWriter, r *http.Request) {
	if !i.count(w, func(c *Counts) *int { return &c.Keys }) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.PathValue("place") != strconv.Itoa(i.place) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	keys := []map[string]any{}
	for _, k := range i.keys {
		keys = append(keys, k.jwk())
	}
	writeJSON(w, map[string]any{"keys": keys})
}

// elsewhere is where nobody is to go.
func (i *Issuer) elsewhere(w http.ResponseWriter, _ *http.Request) {
	i.count(w, func(c *Counts) *int { return &c.Elsewhere })
}

// introspect answers the client (RFC 7662, section 2).
func (i *Issuer) introspect(w http.ResponseWriter, r *http.Request) {
	if !i.count(w, func(c *Counts) *int { return &c.Introspection }) {
		return
	}
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	if id != i.id || secret != i.secret {
		w.WriteHeader(http.StatusUnauthorized)
		writeJSON(w, map[string]any{"error": "invalid_client"})
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if claims, ok := i.active[r.PostFormValue("token")]; ok {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(claims)
		return
	}
	writeJSON(w, map[string]any{"active": false})
}

// issue makes introspection know a token.
func (i *Issuer) issue(token string, claims map[string]any) {
	said := map[string]any{"active": true}
	for name, value := range claims {
		said[name] = value
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.active[token], _ = json.Marshal(said)
}

func (i *Issuer) revoke(token string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.active, token)
}

// opaque makes a token that says nothing itself.
func (i *Issuer) opaque(claims map[string]any) string {
	token := "opaque-" + rand.Text()
	i.issue(token, claims)
	return token
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
