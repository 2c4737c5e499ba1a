package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Apply implements emailprovider.Store.
func (db *DB) Apply(ctx context.Context, c emailprovider.Change) (uint64, error) {
	if err := checkChange(c); err != nil {
		return 0, err
	}
	decided, err := db.decided(c)
	if err != nil {
		return 0, err
	}
	epoch := db.engine.epoch()
	db.seen.compare(epoch, &decided)
	sequence, err := db.engine.apply(ctx, decided)
	db.seen.applied(epoch, &decided, sequence, err)
	if err != nil {
		return 0, err
	}
	if c.Put == nil {
		// The removal is done and durable; its secret is only in the journal for longer if this fails.
		_ = db.engine.erase(ctx)
	}
	return sequence, nil
}

// leavesSettings reports whether an update sets nothing but a credential, sealed with the key of the one before.
func (c *change) leavesSettings() bool {
	return c.alike && len(c.row.ciphertext) > 0 && c.row.keyID == c.ExpectKey
}

// checkChange refuses what would break the promise that an id is given once: the id is held by the
// event that says it was added.
func checkChange(c emailprovider.Change) error {
	if c.Put == nil {
		if c.Expect == 0 {
			return errors.New("sqlstore: a removal needs the expected sequence")
		}
		return nil
	}
	if c.Put.ID != c.Event.ProviderID || c.Put.Instance != c.Event.Instance {
		return fmt.Errorf("sqlstore: provider %s and the event of provider %s are not the same",
			c.Put.ID, c.Event.ProviderID)
	}
	if c.Expect == 0 && c.Event.Type != emailprovider.EventAdded {
		return fmt.Errorf("sqlstore: a new provider with the event %s", c.Event.Type)
	}
	return nil
}
