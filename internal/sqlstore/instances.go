package sqlstore

import (
	"context"
	"strings"

	"github.com/mailkeep/mailkeep/internal/instance"
)

const (
	// Rows of removed instances are as good as gone.
	present = ` NOT EXISTS (SELECT 1 FROM removed_instances AS r WHERE r.id = i.id)`

	instanceColumns = ` CAST(i.id AS TEXT) AS a, CAST(i.name AS TEXT) AS b, CAST(i.sender_domains AS TEXT) AS c,
		i.calls_per_second, i.open_mails, i.providers, i.tokens, i.created`

	// One statement, so that it is one moment's.
	selectInstances = `SELECT` + instanceColumns + `, CAST(COALESCE(d.domain, '') AS TEXT) AS h
		FROM instances AS i LEFT JOIN instance_domains AS d ON d.instance = i.id
		WHERE` + present + ` ORDER BY i.id, d.domain`
	selectInstance = `SELECT` + instanceColumns + `, CAST(COALESCE(d.domain, '') AS TEXT) AS h
		FROM instances AS i LEFT JOIN instance_domains AS d ON d.instance = i.id
		WHERE i.id = $1 AND` + present + ` ORDER BY d.domain`

	selectRevision = `SELECT revision FROM instances WHERE id = 'default'`
	updateRevision = `UPDATE instances SET revision = revision + 1 WHERE id = 'default'`

	// In the order in which changes of providers take them.
	holdInstance = `SELECT id FROM instances WHERE id = $1 OR id = 'default' ORDER BY id /*pg FOR NO KEY UPDATE */`

	createInstance = `INSERT INTO instances (id, name, created) SELECT $1, $2, CAST($3 AS BIGINT)
		WHERE NOT EXISTS (SELECT 1 FROM removed_instances WHERE id = $1) ON CONFLICT (id) DO NOTHING`
	updateInstance = `UPDATE instances SET name = $2, sender_domains = $3, calls_per_second = $4, open_mails = $5,
		providers = $6, tokens = $7 WHERE id = $1`
	deleteDomains = `DELETE FROM instance_domains WHERE instance = $1`
	insertDomain  = `INSERT INTO instance_domains (domain, instance) VALUES ($1, $2)`
)

// Instances implements instance.Store.
func (db *DB) Instances(ctx context.Context) (all []instance.Instance, revision uint64, err error) {
	// First: with a change between the two the revision is an old one, and the next look finds another.
	if revision, err = db.InstancesRevision(ctx); err != nil {
		return nil, 0, err
	}
	err = db.read(ctx, func(ctx context.Context, from reader) error {
		rows, err := from.QueryContext(ctx, selectInstances)
		var found instancesFound
		_, err = collect(rows, err, func() (none struct{}, err error) { return none, found.scan(rows) })
		all = found
		return err
	})
	return all, revision, err
}

// instancesFound are instances as they are read: a row for each domain, those of an instance together.
type instancesFound []instance.Instance

func (f *instancesFound) scan(row scanner) error {
	var (
		in      instance.Instance
		senders string
		created int64
		domain  string
	)
	l := &in.Policy.Limits
	err := row.Scan(&in.ID, &in.Name, &senders, &l.CallsPerSecond, &l.OpenMails, &l.Providers, &l.Tokens, &created, &domain)
	if err != nil {
		return err
	}
	in.Policy.SenderDomains, in.Created = strings.Fields(senders), fromMicros(created)
	if n := len(*f); n == 0 || (*f)[n-1].ID != in.ID {
		*f = append(*f, in)
	}
	if domain != "" {
		last := &(*f)[len(*f)-1]
		last.Domains = append(last.Domains, domain)
	}
	return nil
}

// InstancesRevision implements instance.Store.
func (db *DB) InstancesRevision(ctx context.Context) (revision uint64, err error) {
	if err := db.one(ctx, selectRevision).Scan(&revision); err != nil {
		return 0, db.failed(ctx, err)
	}
	return revision, nil
}

// CreateInstance implements instance.Store.
func (db *DB) CreateInstance(ctx context.Context, n instance.New) error {
	return db.engine.write(ctx, write{of: cachedTokens, do: func(l *line) error {
		if err := changeInstances(l, n.ID); err != nil {
			return err
		}
		if err := l.execOne(instance.ErrExists, createInstance, n.ID, n.Name, micros(n.Created)); err != nil {
			return err
		}
		if err := db.putInstance(l, n.Instance); err != nil {
			return err
		}
		if err := addInstanceKey(l, n.Key); err != nil {
			return err
		}
		_, err := l.exec(upsertToken, n.ID, n.Owner.ID, n.Owner.Name, n.Owner.Hash[:], strings.Join(n.Owner.Roles, " "),
			micros(n.Owner.Created), micros(n.Owner.Expires))
		return err
	}})
}

// changeInstances keeps everybody else from changing instances, and this one's providers and tokens, until
// the transaction ends.
func changeInstances(l *line, id string) error {
	if _, err := l.exists(holdInstance, id); err != nil {
		return err
	}
	_, err := l.exec(updateRevision)
	return err
}

// putInstance writes what can be changed of an instance.
func (db *DB) putInstance(l *line, in instance.Instance) error {
	limits := in.Policy.Limits
	err := l.execOne(instance.ErrNotFound, updateInstance, in.ID, in.Name, strings.Join(in.Policy.SenderDomains, " "),
		int64(limits.CallsPerSecond), int64(limits.OpenMails), int64(limits.Providers), int64(limits.Tokens))
	if err != nil {
		return err
	}
	if _, err := l.exec(deleteDomains, in.ID); err != nil {
		return err
	}
	for _, domain := range in.Domains {
		if _, err := l.exec(insertDomain, domain, in.ID); db.engine.class(err) == uniqueViolation {
			return instance.ErrDomainTaken
		} else if err != nil {
			return err
		}
	}
	return nil
}

// UpdateInstance implements instance.Store.
func (db *DB) UpdateInstance(ctx context.Context, id string, change func(*instance.Instance) error) error {
	return db.write(ctx, func(l *line) error {
		if err := changeInstances(l, id); err != nil {
			return err
		}
		in, err := presentInstance(l, id)
		if err != nil {
			return err
		}
		if err := change(&in); err != nil {
			return err
		}
		return db.putInstance(l, in)
	})
}

func presentInstance(l *line, id string) (instance.Instance, error) {
	var found instancesFound
	err := l.each(selectInstance, []any{id}, func(row scanner) (more bool, err error) { return true, found.scan(row) })
	if err == nil && len(found) == 0 {
		err = instance.ErrNotFound
	}
	if err != nil {
		return instance.Instance{}, err
	}
	return found[0], nil
}

const (
	selectInstanceIDs  = `SELECT i.id FROM instances AS i WHERE` + present + ` ORDER BY i.id`
	selectInstanceKeys = `SELECT key_id, created, wrapped_by, ciphertext FROM instance_keys
		WHERE instance = $1 ORDER BY created DESC, key_id`
	// The new key is the latest one, whatever the clocks of those who made the others.
	insertInstanceKey = `INSERT INTO instance_keys (instance, key_id, created, wrapped_by, ciphertext)
		SELECT $1, CAST($2 AS BIGINT), CASE WHEN CAST($3 AS BIGINT) > k.latest THEN CAST($3 AS BIGINT) ELSE k.latest + 1 END,
			CAST($4 AS BIGINT), $5
		FROM (SELECT COALESCE(max(created), -1) AS latest FROM instance_keys WHERE instance = $1) AS k`
	updateInstanceKey = `UPDATE instance_keys SET wrapped_by = $3, ciphertext = $4 WHERE instance = $1 AND key_id = $2`
)

// InstanceKeys implements seal.InstanceKeys.
func (db *DB) InstanceKeys(ctx context.Context, id string) ([]instance.Key, error) {
	return all(ctx, db, func(row scanner) (instance.Key, error) {
		k := instance.Key{Instance: id}
		var created int64
		err := row.Scan(&k.ID, &created, &k.Wrapped.KeyID, &k.Wrapped.Ciphertext)
		k.Created = fromMicros(created)
		return k, err
	}, selectInstanceKeys, id)
}

// AddInstanceKey implements seal.InstanceKeys.
func (db *DB) AddInstanceKey(ctx context.Context, k instance.Key) error {
	return db.write(ctx, func(l *line) error {
		if err := changeInstances(l, k.Instance); err != nil {
			return err
		}
		if _, err := presentInstance(l, k.Instance); err != nil {
			return err
		}
		return addInstanceKey(l, k)
	})
}

func addInstanceKey(l *line, k instance.Key) error {
	_, err := l.exec(insertInstanceKey, k.Instance, int64(k.ID), micros(k.Created), int64(k.Wrapped.KeyID), k.Wrapped.Ciphertext)
	return err
}

// RewrapInstanceKey implements seal.InstanceKeys.
func (db *DB) RewrapInstanceKey(ctx context.Context, k instance.Key) error {
	return db.write(ctx, func(l *line) error {
		return l.execOne(instance.ErrNotFound, updateInstanceKey, k.Instance, int64(k.ID), int64(k.Wrapped.KeyID), k.Wrapped.Ciphertext)
	})
}

// PresentInstances implements seal.InstanceKeys.
func (db *DB) PresentInstances(ctx context.Context) ([]string, error) {
	return all(ctx, db, func(row scanner) (id string, err error) { return id, row.Scan(&id) }, selectInstanceIDs)
}
