package sqlstore

import "sync"

// cacheSize is how many entries a cache keeps; the next one replaces them all.
const cacheSize = 4096

// cache keeps what was read from the database until it is written to. While a write is under way
// nothing is kept or answered, so that nobody sees the old value after somebody may have seen the
// new one.
//
// It is right only if every write to what it keeps is between two drops, so only for a database
// that no other process writes to.
type cache[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]V
	writes  int    // under way
	epoch   uint64 // counts beginnings and ends of writes: what was read in one is not kept in the next
}

// get returns what is kept for the key, or what read returns, which it keeps unless it is an error.
func (c *cache[K, V]) get(key K, read func(K) (V, error)) (V, error) {
	c.mu.Lock()
	value, ok := c.entries[key]
	epoch := c.epoch
	c.mu.Unlock()
	if ok {
		return value, nil
	}
	value, err := read(key)
	if err == nil {
		c.keep(key, value, epoch)
	}
	return value, err
}

func (c *cache[K, V]) keep(key K, value V, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes > 0 || c.epoch != epoch {
		return
	}
	if c.entries == nil || len(c.entries) >= cacheSize {
		c.entries = map[K]V{}
	}
	c.entries[key] = value
}

// drop forgets everything. Each write of what is kept drops with 1 before it and with -1 after it.
func (c *cache[K, V]) drop(writes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes += writes
	c.epoch++
	c.entries = nil
}
