package sqlstore

import (
	"context"
	"time"
)

// State is how much there is to do, and what is about to expire, over all instances.
type State struct {
	Queued, Sending int64
	Oldest          time.Time // when the first open mail was accepted
	BreakersOpen    int64     // of present credentials
	TokenExpires    time.Time // the first that still works
	MailCertExpires time.Time // the first that a mail server showed for a present credential
}

const (
	countOpen = `SELECT COALESCE(SUM(CASE WHEN state = 'queued' THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN state = 'sending' THEN 1 ELSE 0 END), 0),
		COALESCE(MIN(created), 0) FROM messages WHERE open`
	countBreakers = `SELECT COALESCE(SUM(CASE WHEN u.probe > 0 THEN 1 ELSE 0 END), 0), COALESCE(MIN(CASE WHEN u.cert_expires > 0 THEN u.cert_expires END), 0)
		FROM providers AS p JOIN credential_uses AS u ON u.instance = p.instance AND u.provider_id = p.id AND u.version = p.credential_version`
	firstExpiry = `SELECT COALESCE(MIN(expires), 0) FROM tokens WHERE expires > $1`
)

// State reads the state.
func (db *DB) State(ctx context.Context) (s State, err error) {
	err = db.read(ctx, func(ctx context.Context, from reader) error {
		var oldest, cert, token int64
		for query, to := range map[string][]any{
			countOpen: {&s.Queued, &s.Sending, &oldest}, countBreakers: {&s.BreakersOpen, &cert},
		} {
			if err := from.QueryRowContext(ctx, query).Scan(to...); err != nil {
				return err
			}
		}
		err := from.QueryRowContext(ctx, firstExpiry, micros(db.now())).Scan(&token)
		s.Oldest, s.MailCertExpires, s.TokenExpires = fromMicros(oldest), fromMicros(cert), fromMicros(token)
		return err
	})
	return s, err
}
