package sqlstore

import (
	"slices"
	"sync"
)

// mostRecents is how many providers are remembered; the next one replaces them all.
const mostRecents = 4096

// recents remembers providers as they were last seen here, for emailprovider.Store.Recent only: other
// processes change them too.
type recents struct {
	mu   sync.Mutex
	rows map[providerKey]providerRow
}

func (r *recents) get(key providerKey) (providerRow, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows[key]
	row.ciphertext = slices.Clone(row.ciphertext) // nobody can change what is kept
	row.previous.ciphertext = slices.Clone(row.previous.ciphertext)
	return row, ok
}

func (r *recents) put(key providerKey, row providerRow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == nil || len(r.rows) >= mostRecents {
		r.rows = map[providerKey]providerRow{}
	}
	r.rows[key] = row
}

func (r *recents) drop(key providerKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rows, key)
}

// applied takes note of a change that was made, or with a sequence of 0 was not.
func (r *recents) applied(c *changing) {
	if c.applied == 0 || c.Put == nil {
		r.drop(c.key())
		return
	}
	row, err := newProviderRow(c.Put)
	if err != nil {
		return
	}
	row.sequence = c.applied
	row.ciphertext = slices.Clone(row.ciphertext)
	row.previous.ciphertext = slices.Clone(row.previous.ciphertext)
	r.put(c.key(), row)
}

func (p *postgresEngine) recent(key providerKey) (providerRow, bool) { return p.seen.get(key) }
