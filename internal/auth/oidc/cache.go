package oidc

import (
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/auth"
)

// maxVerified bounds the tokens that are remembered. Only tokens with a good signature get there.
const maxVerified = 4096

// cache remembers tokens whose signature was good, by their SHA-256, until they expire.
type cache struct {
	mu       sync.Mutex
	verified map[[32]byte]verified
	forgot   uint64 // how often everything was forgotten
}

type verified struct {
	caller  auth.Caller
	expires time.Time
}

// get returns the caller of a token that is still good.
func (c *cache) get(hash [32]byte, now time.Time) (auth.Caller, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.verified[hash]
	if !ok {
		return auth.Caller{}, false
	}
	if !now.Before(v.expires) {
		delete(c.verified, hash)
		return auth.Caller{}, false
	}
	return v.caller, true
}

// state is to be had before a token is verified, and shown to put.
func (c *cache) state() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forgot
}

// put remembers a token, unless everything was forgotten since: its key may be gone.
func (c *cache) put(hash [32]byte, v verified, now time.Time, state uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forgot != state || !now.Before(v.expires) {
		return
	}
	if c.verified == nil {
		c.verified = map[[32]byte]verified{}
	}
	for old := range c.verified { // in no order
		if len(c.verified) < maxVerified {
			break
		}
		delete(c.verified, old)
	}
	c.verified[hash] = v
}

// forget forgets every token.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified = nil
	c.forgot++
}
