package sqlstore

import (
	"sync"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// mostRecents is how many providers are remembered; the next one replaces them all.
const mostRecents = 4096

// recents remembers providers as they were last seen here, for emailprovider.Store.Recent only: they may have
// been changed since, by other processes too.
type recents struct {
	mu   sync.Mutex
	rows map[providerKey]providerRow
}

func (r *recents) get(key providerKey) (providerRow, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows[key]
	return row.clone(), ok
}

func (r *recents) put(key providerKey, row providerRow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == nil || len(r.rows) >= mostRecents {
		r.rows = map[providerKey]providerRow{}
	}
	r.rows[key] = row.clone()
}

func (r *recents) drop(key providerKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rows, key)
}

// applied takes note of what became of a change.
func (r *recents) applied(c emailprovider.Change, sequence uint64, err error) {
	key := providerKey{instance: c.Event.Instance, id: c.Event.ProviderID}
	if err != nil || c.Put == nil {
		r.drop(key)
		return
	}
	row, err := newProviderRow(c.Put)
	if err != nil {
		return
	}
	row.sequence = sequence
	r.put(key, row)
}
