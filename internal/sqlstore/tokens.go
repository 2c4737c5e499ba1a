package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/fault"
)

const (
	// For the casts see providerColumns.
	tokenColumns = ` CAST(instance AS TEXT) AS a, CAST(id AS TEXT) AS b, CAST(name AS TEXT) AS c,
		CAST(roles AS TEXT) AS d, CAST(created AS BIGINT) AS e, CAST(expires AS BIGINT) AS f`

	selectTokenByHash = `SELECT` + tokenColumns + ` FROM tokens WHERE hash = $1`
	selectToken       = `SELECT` + tokenColumns + ` FROM tokens WHERE instance = $1 AND id = $2`
	selectTokens      = `SELECT` + tokenColumns + `, hash AS g FROM tokens
		WHERE instance = $1 ORDER BY created, id`

	upsertToken = `INSERT INTO tokens (instance, id, name, hash, roles, created, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (instance, id) DO UPDATE SET name = excluded.name, hash = excluded.hash,
			roles = excluded.roles, created = excluded.created, expires = excluded.expires`

	selectOther = `SELECT 1 FROM tokens WHERE instance = $1 AND id = $2 AND (name, hash, roles, expires) <> ($3, $4, $5, $6)`

	deleteToken   = `DELETE FROM tokens WHERE instance = $1 AND id = $2`
	insertRevoked = `INSERT INTO revoked_tokens (hash, instance, id, revoked)
		SELECT hash, instance, id, CAST($3 AS BIGINT) FROM tokens WHERE instance = $1 AND id = $2`
	selectGone    = `SELECT 1 FROM removed_instances WHERE id = $1`
	selectRevoked = `SELECT 1 FROM revoked_tokens WHERE hash = $1`

	selectHadTokens = `SELECT EXISTS (SELECT 1 FROM tokens WHERE instance = $1)
		OR EXISTS (SELECT 1 FROM revoked_tokens WHERE instance = $1)`
)

// TokenByHash implements auth.Store.
func (db *DB) TokenByHash(ctx context.Context, hash [32]byte) (auth.Token, error) {
	if err := ctx.Err(); err != nil {
		return auth.Token{}, fmt.Errorf("sqlstore: %w", err)
	}
	return db.engine.token(ctx, hash)
}

// Tokens implements auth.Store.
func (db *DB) Tokens(ctx context.Context, instance string) ([]auth.Token, error) {
	return all(ctx, db, func(row scanner) (auth.Token, error) {
		var hash []byte
		t, err := scanToken(row, &hash)
		copy(t.Hash[:], hash)
		return t, err
	}, selectTokens, instance)
}

func scanToken(from scanner, more ...any) (t auth.Token, err error) {
	var (
		roles            string
		created, expires int64
	)
	err = from.Scan(append([]any{&t.Instance, &t.ID, &t.Name, &roles, &created, &expires}, more...)...)
	if err != nil {
		return auth.Token{}, err
	}
	t.Roles = strings.Fields(roles)
	t.Created, t.Expires = fromMicros(created), fromMicros(expires)
	return t, nil
}

// PutToken implements auth.Store. A role with a space in it is refused, and a hash that another
// token has is AlreadyExists.
func (db *DB) PutToken(ctx context.Context, t auth.Token) error {
	roles := strings.Join(t.Roles, " ")
	if !slices.Equal(strings.Fields(roles), t.Roles) {
		return fault.Newf(fault.InvalidArgument, "MAILKEEP-ROLE", "roles %q: a role is a word", t.Roles)
	}
	replaces := false
	err := db.writeTokens(ctx, t.Instance, func(l *line) error {
		revoked, err := l.exists(selectRevoked, t.Hash[:])
		if err != nil {
			return err
		}
		if revoked {
			return auth.ErrRevoked
		}
		replaces, err = l.exists(selectOther, t.Instance, t.ID, t.Name, t.Hash[:], roles, micros(t.Expires))
		if err != nil {
			return err
		}
		_, err = l.exec(upsertToken,
			t.Instance, t.ID, t.Name, t.Hash[:], roles, micros(t.Created), micros(t.Expires))
		if db.engine.class(err) == uniqueViolation {
			return fault.New(fault.AlreadyExists, "MAILKEEP-TOKEN", "another token has the same hash").Because(err)
		}
		return err
	})
	if err == nil && replaces {
		db.engine.tokensOver()
	}
	return err
}

// RevokeToken implements auth.Store.
func (db *DB) RevokeToken(ctx context.Context, instance, id string, refuse func(auth.Token) error) error {
	if !storable(id) {
		return auth.ErrNotFound
	}
	err := db.writeTokens(ctx, instance, func(l *line) error {
		err := l.one(selectToken, []any{instance, id}, func(row scanner) error {
			t, err := scanToken(row)
			if err != nil {
				return err
			}
			return refuse(t)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return auth.ErrNotFound
		}
		if err != nil {
			return err
		}
		if _, err := l.exec(insertRevoked, instance, id, micros(db.now())); err != nil {
			return err
		}
		_, err = l.exec(deleteToken, instance, id)
		return err
	})
	if err == nil || errors.Is(err, auth.ErrNotFound) { // somebody else may have revoked it just now
		db.engine.tokensOver()
	}
	return err
}

// HadTokens implements auth.Store.
func (db *DB) HadTokens(ctx context.Context, instance string) (had bool, err error) {
	if err := db.one(ctx, selectHadTokens, instance).Scan(&had); err != nil {
		return false, db.failed(ctx, err)
	}
	return had, nil
}

// errGone: the instance was removed while somebody was at it.
var errGone = fault.New(fault.NotFound, "MAILKEEP-INSTANCE", "the instance was removed")

// writeTokens is write for what changes tokens of an instance, which must not have been removed: its rows may
// still be there.
func (db *DB) writeTokens(ctx context.Context, instance string, f func(*line) error) error {
	return db.engine.write(ctx, write{of: cachedTokens, do: func(l *line) error {
		if err := hold(l, instance); err != nil {
			return err
		}
		if gone, err := l.exists(selectGone, instance); gone || err != nil {
			return cmp.Or(err, error(errGone))
		}
		return f(l)
	}})
}
