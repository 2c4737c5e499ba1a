package sqlstore

import (
	"context"
	"errors"
	"slices"

	"github.com/mailkeep/mailkeep/internal/instance"
)

// purgedTable is a table that has rows of an instance.
type purgedTable struct {
	table string
	key   string // the columns of its primary key after the instance
	first bool   // with the removal itself: what could be used
	lite  bool   // only SQLite has it
}

// purgedTables are in the order in which they are purged: those that refer to others come first; instances
// itself is the last.
var purgedTables = []purgedTable{
	{table: "instance_keys", key: "key_id", first: true},
	{table: "instance_domains", key: "domain", first: true},
	{table: "tokens", key: "id", first: true},
	{table: "providers", key: "id", first: true},
	{table: "previous_ends", key: "until, id"},
	{table: "messages", key: "id"},
	{table: "message_contents", key: "id"},
	{table: "message_recipients", key: "address, id"},
	{table: "attempts", key: "id, number"},
	{table: "credential_uses", key: "provider_id, version"},
	{table: "deprecated_uses", key: "method, caller, user_agent"},
	{table: "events", key: "sequence"},
	{table: "sorted_events", key: "provider_id, sequence", lite: true},
	{table: "sorted_until", key: "sequence", lite: true},
	{table: "revoked_tokens", key: "hash"},
}

// purged are the tables that this database has.
func (db *DB) purged() []purgedTable {
	if _, ok := db.engine.(*sqliteEngine); ok {
		return purgedTables
	}
	return slices.DeleteFunc(slices.Clone(purgedTables), func(t purgedTable) bool { return t.lite })
}

// purgeBatch bounds a transaction.
const purgeBatch = 500

const (
	insertRemoved = `INSERT INTO removed_instances (id, name, created, removed, removed_by)
		SELECT i.id, i.name, i.created, CAST($2 AS BIGINT), $3 FROM instances AS i WHERE i.id = $1 AND` + present
	selectRemoved = `SELECT id, name, created, removed, removed_by FROM removed_instances ORDER BY id`
	selectLeft    = `SELECT r.id FROM removed_instances AS r JOIN instances AS i ON i.id = r.id ORDER BY r.id`
	holdRemoved   = `SELECT id FROM instances WHERE id = $1 /*pg FOR UPDATE */`
)

// RemoveInstance implements instance.Store.
func (db *DB) RemoveInstance(ctx context.Context, id, by string) error {
	err := db.engine.write(ctx, write{of: cachedAll, do: func(l *line) error {
		if err := changeInstances(l, id); err != nil {
			return err
		}
		if err := l.execOne(instance.ErrNotFound, insertRemoved, id, micros(db.now()), by); err != nil {
			return err
		}
		for _, p := range db.purged() {
			if !p.first {
				continue
			}
			if _, err := l.exec(`DELETE FROM `+p.table+` WHERE instance = $1`, id); err != nil {
				return err
			}
		}
		return nil
	}})
	if err == nil {
		db.seen.dropInstance(id)
		_ = db.engine.erase(ctx) // does it later if it can't now
	}
	if err == nil || errors.Is(err, instance.ErrNotFound) { // somebody else may have removed it just now
		db.engine.tokensOver()
	}
	return err
}

// FinishRemovals implements instance.Store.
func (db *DB) FinishRemovals(ctx context.Context) error {
	left, err := all(ctx, db, func(row scanner) (id string, err error) { return id, row.Scan(&id) }, selectLeft)
	for _, id := range left {
		if err := db.purge(ctx, id); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		_ = db.engine.erase(ctx)
	}
	return err
}

// purge deletes the rows of a removed instance. In the end nobody else can add one: who adds some of what
// refers to the instance waits, and finds it gone.
func (db *DB) purge(ctx context.Context, id string) error {
	for _, p := range db.purged() {
		for {
			deleted, err := db.purgeSome(ctx, p.table, p.key, id)
			if err != nil {
				return err
			}
			if deleted < purgeBatch {
				break
			}
		}
	}
	return db.engine.write(ctx, write{of: cachedAll, do: func(l *line) error {
		if _, err := l.exists(holdRemoved, id); err != nil {
			return err
		}
		for _, p := range db.purged() { // what came meanwhile
			if _, err := l.exec(`DELETE FROM `+p.table+` WHERE instance = $1`, id); err != nil {
				return err
			}
		}
		_, err := l.exec(`DELETE FROM instances WHERE id = $1`, id)
		return err
	}})
}

func (db *DB) purgeSome(ctx context.Context, table, key, id string) (deleted int64, err error) {
	key = "instance, " + key
	query := `DELETE FROM ` + table + ` WHERE (` + key + `) IN (SELECT ` + key + ` FROM ` + table + ` WHERE instance = $1 LIMIT $2)`
	err = db.engine.write(ctx, write{of: cachedAll, do: func(l *line) (err error) {
		deleted, err = l.exec(query, id, purgeBatch)
		return err
	}})
	return deleted, err
}

// RemovedInstances implements instance.Store.
func (db *DB) RemovedInstances(ctx context.Context) ([]instance.Removed, error) {
	return all(ctx, db, func(row scanner) (r instance.Removed, err error) {
		var created, removed int64
		err = row.Scan(&r.ID, &r.Name, &created, &removed, &r.By)
		r.Created, r.Removed = fromMicros(created), fromMicros(removed)
		return r, err
	}, selectRemoved)
}
