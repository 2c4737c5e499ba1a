package delivery

import (
	"context"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	// maxTokenLife is how long a token is kept at most, whatever its endpoint says.
	maxTokenLife = time.Hour
	// tokenMargin is the time that a kept token must still be good for, to log in with it.
	tokenMargin = 30 * time.Second
	// renewalPause is the time between two attempts to replace a token that is still good.
	renewalPause = 10 * time.Second
)

// TokenCache keeps the bearer tokens of providers between sessions, one for each. A token is only ever
// used for the state of the credential that it was got with: version and everything that is sent to the
// endpoint. Values that are not stored get a new token each time.
//
// A token is replaced before it expires, by one request in the background while the old one is in use. Who
// needs a token while one is asked for waits for that; a caller who goes away does not end the request.
type TokenCache struct {
	source TokenSource
	now    func() time.Time
	jitter func() float64 // from 0 to 1

	mu     sync.Mutex
	tokens map[place]*keptToken // those of the newest version seen of each provider
}

var _ TokenSource = (*TokenCache)(nil)

// NewTokenCache returns a TokenCache of what the source gets; now is time.Now outside of tests.
func NewTokenCache(source TokenSource, now func() time.Time) *TokenCache {
	return &TokenCache{source: source, now: now, jitter: rand.Float64, tokens: map[place]*keptToken{}}
}

// credential is what a token depends on.
type credential struct {
	version                    uint64
	endpoint, clientID, scopes string
}

func credentialOf(via emailprovider.Route) credential {
	x := via.SMTP.XOAuth2
	return credential{via.CredentialVersion, x.TokenEndpoint, x.ClientID, strings.Join(x.Scopes, " ")}
}

// keptToken is the token of one credential, or the request for it.
type keptToken struct {
	credential
	edition  edition // the newest that it was asked for
	token    secret.Text
	renewAt  time.Time
	usableTo time.Time
	request  *tokenRequest // under way; nil if none is
}

// tokenRequest is what whoever waits for a token waits for.
type tokenRequest struct {
	done   chan struct{}
	bearer Bearer
	err    error
}

// Token implements TokenSource.
func (c *TokenCache) Token(ctx context.Context, via emailprovider.Route) (Bearer, error) {
	if via.ProviderID == "" || via.CredentialVersion == 0 {
		return c.source.Token(ctx, via)
	}
	kept, request := c.look(ctx, via)
	switch {
	case request != nil:
		select {
		case <-request.done:
			return request.bearer, request.err
		case <-ctx.Done():
			return Bearer{}, ctx.Err()
		}
	case kept.Token.Empty(): // the credential is an earlier one
		return c.source.Token(ctx, via)
	}
	return kept, nil
}

// drop forgets the tokens of an instance.
func (c *TokenCache) drop(instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.tokens, func(at place, _ *keptToken) bool { return at.instance == instance })
}

// look returns a kept token, or a request to wait for, or neither for an earlier state of a provider than
// the one that is kept.
func (c *TokenCache) look(ctx context.Context, via emailprovider.Route) (kept Bearer, wait *tokenRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.entry(via)
	if k == nil {
		return Bearer{}, nil
	}
	now := c.now()
	usable := !k.token.Empty() && now.Before(k.usableTo)
	if k.request == nil && (!usable || !now.Before(k.renewAt)) {
		k.request = &tokenRequest{done: make(chan struct{})}
		go c.ask(context.WithoutCancel(ctx), via, k, k.request)
	}
	if !usable {
		return Bearer{}, k.request
	}
	return Bearer{Token: k.token, Kept: true}, nil
}

// entry returns where the token of a route is kept, or nil if that is for a later state of the provider.
// It is called with the lock held.
func (c *TokenCache) entry(via emailprovider.Route) *keptToken {
	at, e := place{via.Instance, via.ProviderID}, edition{via.Sequence, via.CredentialVersion}
	k := c.tokens[at]
	if k != nil && k.credential != credentialOf(via) {
		if e.before(k.edition) {
			return nil
		}
		k = nil
	}
	if k == nil {
		c.sweep()
		k = &keptToken{credential: credentialOf(via)}
		c.tokens[at] = k
	}
	if k.edition.before(e) {
		k.edition = e
	}
	return k
}

// sweep forgets tokens that can't be used any more: their providers may be gone. It is called with the
// lock held.
func (c *TokenCache) sweep() {
	now := c.now()
	for at, k := range c.tokens {
		if k.request == nil && !now.Before(k.usableTo) {
			delete(c.tokens, at)
		}
	}
}

// ask gets a token for all who wait.
func (c *TokenCache) ask(ctx context.Context, via emailprovider.Route, k *keptToken, r *tokenRequest) {
	r.bearer, r.err = c.source.Token(ctx, via)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(r.done)
	k.request = nil
	now := c.now()
	if r.err != nil {
		k.renewAt = now.Add(renewalPause)
		return
	}
	// An endpoint that does not say how long is not taken to mean for ever: that token is not kept.
	usable := min(r.bearer.Life, maxTokenLife) - tokenMargin
	k.token, k.usableTo = r.bearer.Token, now.Add(usable)
	k.renewAt = now.Add(time.Duration(float64(usable) * (0.75 + 0.1*c.jitter())))
}

// Refused forgets a token that a mail server did not take, unless there is another one by now.
func (c *TokenCache) Refused(via emailprovider.Route, token secret.Text) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.tokens[place{via.Instance, via.ProviderID}]
	if k != nil && k.token.Reveal() == token.Reveal() {
		k.token = secret.Text{}
	}
}
