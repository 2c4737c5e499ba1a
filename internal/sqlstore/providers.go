package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	selectProvider = `SELECT` + providerColumns + ` FROM providers WHERE instance = $1 AND id = $2`
	selectActive   = `SELECT` + providerColumns + ` FROM providers WHERE instance = $1 AND active`

	selectSequence = `SELECT sequence FROM instances WHERE id = $1`
	countAll       = `SELECT count(*) FROM providers WHERE instance = $1 AND created > 0`
	countSMTP      = countAll + ` AND kind = 'smtp'`

	listAll     = `SELECT` + providerColumns + ` FROM providers WHERE instance = $1 AND created > 0`
	listSMTP    = listAll + ` AND kind = 'smtp'`
	oldestFirst = ` ORDER BY created, id LIMIT $2 OFFSET $3`
	newestFirst = ` ORDER BY created DESC, id DESC LIMIT $2 OFFSET $3`
)

// Provider implements emailprovider.Store.
func (db *DB) Provider(ctx context.Context, instance, id string) (emailprovider.Provider, error) {
	return db.provider(ctx, providerKey{instance: instance, id: id})
}

// Recent implements emailprovider.Store.
func (db *DB) Recent(instance, id string) (p emailprovider.Provider, ok bool) {
	row, ok := db.seen.get(db.engine.epoch(), providerKey{instance: instance, id: id})
	if !ok {
		return p, false
	}
	p, err := row.provider(instance)
	return p, err == nil
}

// Active implements emailprovider.Store.
func (db *DB) Active(ctx context.Context, instance string) (emailprovider.Provider, error) {
	return db.provider(ctx, providerKey{instance: instance, active: true})
}

// providerKey is what a provider is asked for by: its id, or that it is the active one.
type providerKey struct {
	instance, id string
	active       bool
}

func (db *DB) provider(ctx context.Context, key providerKey) (emailprovider.Provider, error) {
	if err := ctx.Err(); err != nil {
		return emailprovider.Provider{}, fmt.Errorf("sqlstore: %w", err)
	}
	epoch := db.engine.epoch()
	row, err := db.engine.provider(ctx, key)
	if err != nil {
		return emailprovider.Provider{}, err
	}
	if !key.active {
		db.seen.put(epoch, key, row)
	}
	return row.provider(key.instance)
}

// writeProviders is write for what changes providers.
func (db *DB) writeProviders(ctx context.Context, f func(*line) error) error {
	return db.engine.write(ctx, write{do: f, of: cachedProviders})
}

// hold lets nobody else change providers or tokens of the instance until the transaction ends. Whoever
// changes them holds the instance first, so that what is read afterwards stays so, and so that nobody
// waits for somebody who waits for him.
func hold(l *line, instance string) error {
	_, err := l.exists(`SELECT id FROM instances WHERE id = $1 /*pg FOR NO KEY UPDATE */`, instance)
	return err
}

// List implements emailprovider.Store.
func (db *DB) List(ctx context.Context, instance string, q emailprovider.Query) (page emailprovider.Page, err error) {
	list, count := listAll, countAll
	if q.SMTPOnly {
		list, count = listSMTP, countSMTP
	}
	if q.Ascending {
		list += oldestFirst
	} else {
		list += newestFirst
	}
	err = db.snapshot(ctx, func(ctx context.Context, tx *sql.Tx) error {
		page = emailprovider.Page{}
		err := tx.QueryRowContext(ctx, selectSequence, instance).Scan(&page.Sequence)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // An instance that does not exist has no providers.
		}
		if err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, count, instance).Scan(&page.Total); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, list, instance, q.Limit, signed(q.Offset))
		page.Providers, err = collect(rows, err, func() (emailprovider.Provider, error) {
			return scanProvider(rows, &instance)
		})
		return err
	})
	return page, err
}
