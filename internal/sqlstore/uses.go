package sqlstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/mailkeep/mailkeep/internal/deprecation"
)

const (
	// min and max of two values have other names in other databases. A use in an instance that was removed
	// meanwhile must not keep the others from being stored.
	upsertUse = `INSERT INTO deprecated_uses AS u
			(instance, method, caller, user_agent, calls, first_use, last_use)
		SELECT $1, $2, $3, $4, CAST($5 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS BIGINT)
		FROM instances WHERE id = $1
		ON CONFLICT (instance, method, caller, user_agent) DO UPDATE SET
			calls = u.calls + excluded.calls,
			first_use = CASE WHEN excluded.first_use < u.first_use THEN excluded.first_use ELSE u.first_use END,
			last_use = CASE WHEN excluded.last_use > u.last_use THEN excluded.last_use ELSE u.last_use END`

	selectAgents = `SELECT COUNT(*), COUNT(CASE WHEN user_agent = $4 THEN 1 END)
		FROM deprecated_uses WHERE instance = $1 AND method = $2 AND caller = $3`

	selectUses = `SELECT instance, method, caller, user_agent, calls, first_use, last_use
		FROM deprecated_uses WHERE instance = $1
		ORDER BY last_use DESC, method, caller, user_agent`
)

// AddUses implements deprecation.Store. It takes rows in one order, those that others share last, so that nobody
// waits for somebody who waits for him.
func (db *DB) AddUses(ctx context.Context, uses []deprecation.Use) error {
	uses = slices.SortedFunc(slices.Values(uses), func(a, b deprecation.Use) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Caller, b.Caller),
			cmp.Compare(a.UserAgent, b.UserAgent))
	})
	return db.write(ctx, func(l *line) error {
		var others []deprecation.Use
		for _, u := range uses {
			if err := foldAgent(l, &u); err != nil {
				return err
			}
			if u.UserAgent == deprecation.Other {
				others = append(others, u)
				continue
			}
			if err := addUse(l, u); err != nil {
				return err
			}
		}
		for _, u := range others {
			if err := addUse(l, u); err != nil {
				return err
			}
		}
		return nil
	})
}

func addUse(l *line, u deprecation.Use) error {
	_, err := l.exec(upsertUse, u.Instance, u.Method, u.Caller, u.UserAgent, u.Calls, micros(u.First), micros(u.Last))
	return err
}

// foldAgent puts a use with a new user agent under deprecation.Other when its caller has very many
// already, so that nobody can fill the database.
func foldAgent(l *line, u *deprecation.Use) error {
	var known, agents int
	err := l.one(selectAgents, []any{u.Instance, u.Method, u.Caller, u.UserAgent}, func(row scanner) error {
		return row.Scan(&agents, &known)
	})
	if known == 0 && agents >= deprecation.MaxAgents {
		u.UserAgent = deprecation.Other
	}
	return err
}

// Uses implements deprecation.Store.
func (db *DB) Uses(ctx context.Context, instance string) ([]deprecation.Use, error) {
	return all(ctx, db, func(row scanner) (u deprecation.Use, err error) {
		var first, last int64
		err = row.Scan(&u.Instance, &u.Method, &u.Caller, &u.UserAgent, &u.Calls, &first, &last)
		u.First, u.Last = fromMicros(first), fromMicros(last)
		return u, err
	}, selectUses, instance)
}
