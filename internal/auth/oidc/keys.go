package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// refreshInterval is how long a key that the issuer has withdrawn is good here, at most.
	refreshInterval = 5 * time.Minute
	// minRefresh is the time between two fetches that tokens ask for by a key that is not known.
	minRefresh = 10 * time.Second
	// maxKeys bounds a key set; a token that names no key is tried with each.
	maxKeys = 64
)

var (
	errUnknownKey = errors.New("a key that the issuer does not have")
	errSignature  = errors.New("the signature is not the issuer's")
)

// key is a public key with the one algorithm that it is good for.
type key struct {
	id        string
	algorithm jose.SignatureAlgorithm
	public    any
}

// keySet is the issuer's keys. It implements oidc.KeySet.
type keySet struct {
	url     string
	client  *http.Client
	now     func() time.Time
	changed func() // called when a key is gone, before anybody sees the new keys

	mu      sync.Mutex
	keys    []key
	fetched time.Time     // the last fetch's begin
	failed  error         // of the last fetch
	done    chan struct{} // of the fetch under way; nil if none is
}

// lookFor has the key that a header names at hand, or says why it can't be. One that is not known may have
// been made just now, so it is looked for at the issuer; however many such tokens come, that is done once
// in minRefresh.
func (s *keySet) lookFor(ctx context.Context, h header) error {
	if _, known := s.fitting(h); known || h.KeyID == "" {
		return nil
	}
	if err := s.renew(ctx, minRefresh); err != nil {
		return err
	}
	if _, known := s.fitting(h); !known {
		return errUnknownKey
	}
	return nil
}

// VerifySignature implements oidc.KeySet, with the keys at hand. Of what a header says about keys, only
// the name counts: not jwk, not jku, not x5c.
func (s *keySet) VerifySignature(_ context.Context, token string) ([]byte, error) {
	h, err := readHeader(token)
	if err != nil {
		return nil, err
	}
	keys, _ := s.fitting(h)
	for _, k := range keys {
		signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{k.algorithm})
		if err != nil {
			continue
		}
		if payload, err := signed.Verify(k.public); err == nil {
			return payload, nil
		}
	}
	return nil, errSignature
}

// fitting returns the keys that a header may mean, with its name and algorithm, and whether there is one
// of its name at all.
func (s *keySet) fitting(h header) (fit []key, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if h.KeyID != "" && h.KeyID != k.id {
			continue
		}
		known = true
		if h.Algorithm == string(k.algorithm) {
			fit = append(fit, k)
		}
	}
	return fit, known
}

// renew fetches the keys, if the last fetch began long enough ago, or waits for the one under way. The
// error is the last fetch's, an *outage, or that of ctx.
func (s *keySet) renew(ctx context.Context, after time.Duration) error {
	s.mu.Lock()
	if s.done == nil && s.now().Sub(s.fetched) < after {
		defer s.mu.Unlock()
		return s.failed
	}
	if s.done == nil {
		s.done, s.fetched = make(chan struct{}), s.now()
		go s.fetch(context.WithoutCancel(ctx), s.done) // for all who wait, whoever goes away
	}
	done := s.done
	s.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *keySet) fetch(ctx context.Context, done chan struct{}) {
	keys, err := s.ask(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(done)
	s.done, s.failed = nil, nil
	if err != nil {
		s.failed = &outage{fmt.Errorf("fetching the issuer's keys: %w", err)}
		return
	}
	if withdrawn(s.keys, keys) {
		s.changed()
	}
	s.keys = keys
}

// withdrawn reports whether an old key is not among the new ones.
func withdrawn(old, keys []key) bool {
	for _, o := range old {
		kept := false
		for _, k := range keys {
			equal, ok := k.public.(interface{ Equal(x any) bool })
			kept = kept || k.id == o.id && k.algorithm == o.algorithm && ok && equal.Equal(o.public)
		}
		if !kept {
			return true
		}
	}
	return false
}

func (s *keySet) ask(ctx context.Context) ([]key, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return readKeys(body)
}

// readKeys reads a JWK set. Keys that are not for signatures, or of kinds that we don't know, are left
// out (RFC 7517, section 5).
func readKeys(data []byte) (keys []key, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("that is no JWK set")
	}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) != nil || !k.IsPublic() || !k.Valid() || k.Use != "" && k.Use != "sig" {
			continue
		}
		algorithm := algorithmOf(k)
		if algorithm == "" {
			continue
		}
		if keys = append(keys, key{k.KeyID, algorithm, k.Key}); len(keys) > maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key that signs")
	}
	return keys, nil
}
