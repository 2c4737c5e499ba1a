package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	// mostLookups is how many callers share a query at most.
	mostLookups = 256

	// overtaking is how long a query may take before those who wait for it to be over have one of their
	// own: its connection may be dead.
	overtaking = 250 * time.Millisecond
)

// lookup answers callers who look for rows by their keys, those who ask at the same time with one
// query. Each is answered with what was true after it asked: nothing is kept.
type lookup[K comparable, V any] struct {
	queue queue[*looked[K, V]]
	p     *postgresEngine
	find  func(context.Context, *pgx.Conn, []K) (map[K]V, error)
}

type looked[K comparable, V any] struct {
	key   K
	value V
	found bool
}

func newLookup[K comparable, V any](p *postgresEngine, find func(context.Context, *pgx.Conn, []K) (map[K]V, error)) *lookup[K, V] {
	l := &lookup[K, V]{p: p, find: find}
	l.queue.run = l.answer
	return l
}

// get returns the row with the key, or none.
func (l *lookup[K, V]) get(ctx context.Context, key K, none error) (value V, err error) {
	if err := ctx.Err(); err != nil {
		return value, fmt.Errorf("sqlstore: %w", err)
	}
	ask := &looked[K, V]{key: key}
	if l.queue.seize() {
		err = l.lead(ask)
	} else {
		err = l.queue.await(ctx, l.p.patience, &job[*looked[K, V]]{ask: ask})
	}
	switch {
	case errors.Is(err, errOutcomeUnknown):
		return value, errBusy
	case err != nil:
		return value, err
	case !ask.found:
		return value, none
	}
	return ask.value, nil
}

// lead has the first caller answer itself, and who has come with it: to wake somebody else for that takes a tenth of
// the time. Those who come later wait for the end of it, or until it takes long.
func (l *lookup[K, V]) lead(ask *looked[K, V]) error {
	var once sync.Once
	release := func() { once.Do(l.queue.release) }
	patience := time.AfterFunc(overtaking, release)
	defer patience.Stop()
	defer release()
	own := &job[*looked[K, V]]{ask: ask, done: make(chan struct{})}
	runtime.Gosched() // who is about to come, comes
	l.answerAll(append(l.queue.takeBegun(mostLookups-1), own))
	return own.outcome()
}

// answer answers those who wait, or leaves that to others when it takes long.
func (l *lookup[K, V]) answer() {
	jobs := l.queue.takeBegun(mostLookups)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		l.answerAll(jobs)
	}()
	patience := time.NewTimer(overtaking)
	defer patience.Stop()
	select {
	case <-answered:
	case <-patience.C:
	}
}

func (l *lookup[K, V]) answerAll(jobs []*job[*looked[K, V]]) {
	keys := make([]K, 0, len(jobs))
	seen := make(map[K]bool, len(jobs))
	for _, j := range jobs {
		if !seen[j.ask.key] {
			seen[j.ask.key] = true
			keys = append(keys, j.ask.key)
		}
	}
	var rows map[K]V
	err := l.p.look(context.Background(), func(ctx context.Context, conn *pgx.Conn) (err error) {
		rows, err = l.find(ctx, conn, keys)
		return err
	})
	for _, j := range jobs {
		j.ask.value, j.ask.found = rows[j.ask.key]
		j.finish(err)
	}
}

// twice runs f, which only reads, and again if the connection was lost or gives no answer for half of the
// patience: what is listening there may have been replaced.
func (p *postgresEngine) twice(ctx context.Context, f func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	first, cancel := context.WithTimeout(bounded, p.patience/2)
	err := f(first)
	cancel()
	if err != nil && bounded.Err() == nil && (first.Err() != nil && stopped(err) || p.class(err) == brokenIO) {
		err = f(bounded)
	}
	if err == nil {
		return nil
	}
	return failed(p.class, ctx, bounded, err)
}

// look runs f, which only reads, on a connection.
func (p *postgresEngine) look(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	return p.twice(ctx, func(ctx context.Context) error {
		conn, err := p.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		if err := f(ctx, conn.Conn()); err != nil {
			return err
		}
		return p.stillBelieved(conn.Conn())
	})
}

// read implements engine.
func (p *postgresEngine) read(ctx context.Context, pool *sql.DB, f func(context.Context, reader) error) error {
	return p.twice(ctx, func(ctx context.Context) error {
		conn, err := pool.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // what was read was read
		if err := f(ctx, conn); err != nil {
			return err
		}
		return conn.Raw(func(driver any) error { return p.stillBelieved(driver.(*stdlib.Conn).Conn()) })
	})
}

// stillBelieved refuses what was read from a server that another has taken over from meanwhile.
func (p *postgresEngine) stillBelieved(conn *pgx.Conn) error {
	if !p.fence.believes(conn) {
		return &refusal{"another server has taken over meanwhile"}
	}
	return nil
}

func (p *postgresEngine) provider(ctx context.Context, key providerKey) (providerRow, error) {
	if !storable(key.id) {
		return providerRow{}, emailprovider.ErrNotFound
	}
	row, err := p.providers.get(ctx, key, emailprovider.ErrNotFound)
	return row.clone(), err
}

func (p *postgresEngine) token(ctx context.Context, hash [32]byte) (auth.Token, error) {
	epoch := p.epoch()
	t, ok, begun := p.leases.get(epoch, hash)
	if !ok {
		var err error
		if t, err = p.tokens.get(ctx, hash, auth.ErrNotFound); err != nil {
			return auth.Token{}, err
		}
		p.leases.put(epoch, t, begun)
	}
	t.Roles = slices.Clone(t.Roles) // nobody can change what is kept
	return t, nil
}

// tokensOver implements engine.
func (p *postgresEngine) tokensOver() { p.leases.over() }

// storable reports whether text can be in a database of PostgreSQL, which has no NUL characters.
func storable(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

const (
	// Joined freely, PostgreSQL would go through the whole table if its statistics are of a time when it was small.
	findByID = `SELECT k.owner AS a0, p.* FROM unnest($1::text[], $2::text[]) AS k (owner, named)
		CROSS JOIN LATERAL (SELECT` + providerColumns + ` FROM providers WHERE instance = k.owner AND id = k.named OFFSET 0) AS p`
	findActive = `SELECT k.owner AS a0, p.* FROM unnest($1::text[]) AS k (owner)
		CROSS JOIN LATERAL (SELECT` + providerColumns + ` FROM providers WHERE instance = k.owner AND active OFFSET 0) AS p`
	// findOne takes three quarters of the time that findByID takes for one.
	findOne    = `SELECT instance AS a0,` + providerColumns + ` FROM providers WHERE instance = $1 AND id = $2`
	findByHash = `SELECT` + tokenColumns + `, hash AS g FROM tokens WHERE hash = ANY($1)`
)

func findProviders(ctx context.Context, conn *pgx.Conn, keys []providerKey) (map[providerKey]providerRow, error) {
	var instances, ids, active []string
	for _, k := range keys {
		if k.active {
			active = append(active, k.instance)
		} else {
			instances, ids = append(instances, k.instance), append(ids, k.id)
		}
	}
	found := make(map[providerKey]providerRow, len(keys))
	add := func(key providerKey) func(binaryRow) error {
		return func(row binaryRow) error {
			var r providerRow
			if err := r.scan(row, &key.instance); err != nil {
				return err
			}
			if !key.active {
				key.id = r.id
			}
			found[key] = r
			return nil
		}
	}
	batch := pipeline{conn: conn}
	switch len(ids) {
	case 0:
	case 1:
		var p params
		p.text(instances[0])
		p.text(ids[0])
		if err := batch.add(ctx, findOne, p, eachRow(add(providerKey{}))); err != nil {
			return nil, err
		}
	default:
		var p params
		p.texts(instances)
		p.texts(ids)
		if err := batch.add(ctx, findByID, p, eachRow(add(providerKey{}))); err != nil {
			return nil, err
		}
	}
	if len(active) > 0 {
		var p params
		p.texts(active)
		if err := batch.add(ctx, findActive, p, eachRow(add(providerKey{active: true}))); err != nil {
			return nil, err
		}
	}
	return found, batch.run(ctx)
}

func findTokens(ctx context.Context, conn *pgx.Conn, hashes [][32]byte) (map[[32]byte]auth.Token, error) {
	var p params
	p.array(len(hashes), byteaType)
	for i := range hashes {
		p.element(string(hashes[i][:]))
	}
	p.end()
	found := make(map[[32]byte]auth.Token, len(hashes))
	batch := pipeline{conn: conn}
	err := batch.add(ctx, findByHash, p, eachRow(func(row binaryRow) error {
		var hash []byte
		t, err := scanToken(row, &hash)
		copy(t.Hash[:], hash)
		found[t.Hash] = t
		return err
	}))
	if err != nil {
		return nil, err
	}
	return found, batch.run(ctx)
}

// row is the row that a query answers; it is read when it is scanned.
func (p *postgresEngine) row(ctx context.Context, query string, args ...any) scanner {
	return scanning(func(dest ...any) error {
		return p.look(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			return conn.QueryRow(ctx, query, args...).Scan(dest...)
		})
	})
}

// isNetwork reports whether err comes from the network.
func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
