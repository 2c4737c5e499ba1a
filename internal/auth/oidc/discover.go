package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// Bounds of the time between two attempts to find the issuer.
const (
	minRetry = time.Second
	maxRetry = time.Minute
)

// Run finds the issuer and keeps its keys up to date until ctx ends. Nothing waits for it: an issuer may
// be down when the service starts.
func (t *Trust) Run(ctx context.Context) {
	defer t.client.CloseIdleConnections()
	if t.config.Issuer == "" {
		<-ctx.Done()
		return
	}
	wait, failing := minRetry, false
	for ctx.Err() == nil {
		err := t.update(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if failing {
				t.config.Log.Info("the issuer answers again", t.issuer())
			}
			wait, failing = minRetry, false
			sleep(ctx, refreshInterval)
			continue
		case !failing:
			t.config.Log.Warn("the issuer can't be reached; its tokens are answered UNAVAILABLE unless their keys are known; trying again",
				t.issuer(), "err", err)
		}
		failing = true
		sleep(ctx, wait+rand.N(wait)/4)
		wait = min(2*wait, maxRetry)
	}
}

func (t *Trust) issuer() slog.Attr { return slog.String("issuer", t.config.Issuer) }

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// update fetches the issuer's keys, and finds out where they are if need be.
func (t *Trust) update(ctx context.Context) error {
	known := t.keys.Load()
	if known != nil && known.renew(ctx, 0) == nil {
		return nil
	}
	url, err := t.discover(ctx)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	keys := &keySet{url: url, client: t.client, now: t.config.Now, changed: t.cache.forget}
	if err := keys.renew(ctx, 0); err != nil {
		return err
	}
	t.keys.Store(keys)
	if known != nil { // the issuer has moved them, and may have withdrawn some
		t.cache.forget()
	}
	return nil
}

// maxShown bounds what is logged of an answer, in bytes.
const maxShown = 300

// discover returns where the issuer has its keys (OpenID Connect Discovery, section 4).
func (t *Trust) discover(ctx context.Context) (jwks string, err error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, t.client), t.config.Issuer)
	if mismatch, ok := errors.AsType[*oidc.IssuerMismatchError](err); ok {
		return "", fmt.Errorf("the issuer calls itself %.200q, which --oidc-issuer must be exactly", mismatch.Discovered)
	}
	if err != nil {
		text := err.Error() // which may have the whole answer in it
		return "", errors.New(text[:min(len(text), maxShown)])
	}
	var metadata struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return "", err
	}
	if err := checkURL(metadata.JWKS); err != nil {
		return "", fmt.Errorf("jwks_uri %w", err)
	}
	if strings.HasPrefix(t.config.Issuer, "https:") && !strings.HasPrefix(metadata.JWKS, "https:") {
		return "", errors.New("jwks_uri must be https, as the issuer is")
	}
	return metadata.JWKS, nil
}
