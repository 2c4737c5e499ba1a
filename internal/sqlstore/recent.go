package sqlstore

import (
	"maps"
	"sync"
)

// mostRecents is how many providers are remembered; the next one replaces them all.
const mostRecents = 4096

// recents remembers providers as they were last seen here, for emailprovider.Store.Recent only: they may have
// been changed since, by other processes too. A server that takes over may never have seen what the one before
// it had said last, and give its sequence to something else: nothing is remembered beyond an epoch.
type recents struct {
	mu    sync.Mutex
	epoch uint32 // that all are of; see engine.epoch
	rows  map[providerKey]providerRow
}

func (r *recents) get(epoch uint32, key providerKey) (row providerRow, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		return row, false
	}
	row, ok = r.rows[key]
	return row.clone(), ok
}

// put takes note of what was asked for in an epoch.
func (r *recents) put(epoch uint32, key providerKey, row providerRow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch < r.epoch {
		return
	}
	if r.rows == nil || len(r.rows) >= mostRecents || epoch > r.epoch {
		r.rows, r.epoch = map[providerKey]providerRow{}, epoch
	}
	r.rows[key] = row.clone()
}

func (r *recents) drop(key providerKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rows, key)
}

func (r *recents) dropInstance(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.rows, func(key providerKey, _ providerRow) bool { return key.instance == id })
}

// compare has a change, begun in an epoch, know how it differs from its provider as that was last seen. A
// sequence stands for one state of it.
func (r *recents) compare(epoch uint32, c *change) {
	if c.Put == nil || c.Expect == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	row, ok := r.rows[providerKey{instance: c.Event.Instance, id: c.Event.ProviderID}]
	if !ok || r.epoch != epoch || row.sequence != c.Expect {
		return
	}
	c.alike = c.row.sameSettings(&row)
	c.replaces = c.row.previous.isPresentOf(&row)
}

// applied takes note of what became of a change that was begun in an epoch.
func (r *recents) applied(epoch uint32, c *change, sequence uint64, err error) {
	key := providerKey{instance: c.Event.Instance, id: c.Event.ProviderID}
	if err != nil || c.Put == nil {
		r.drop(key)
		return
	}
	row := c.row
	row.sequence = sequence
	r.put(epoch, key, row)
}
