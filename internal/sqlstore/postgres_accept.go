package sqlstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// mostMails is how many mails are accepted in one transaction.
const mostMails = 64

// accepting is a mail that somebody waits for to be accepted.
type accepting struct {
	*acceptance
	taken bool // its idempotency key
}

func (p *postgresEngine) accept(ctx context.Context, m *acceptance) (taken outbox.Message, err error) {
	if err := ctx.Err(); err != nil {
		return taken, fmt.Errorf("sqlstore: %w", err)
	}
	ask := &accepting{acceptance: m}
	if err := p.mails.await(ctx, p.patience, &job[*accepting]{ask: ask}); err != nil || !ask.taken {
		return taken, err
	}
	// Nobody gives a key away, so that who has it now had it then.
	err = p.write(ctx, write{do: func(l *line) error { return keyTaken(l, m, &taken) }})
	return taken, err
}

// acceptQueue accepts the mails that wait.
func (p *postgresEngine) acceptQueue() {
	takeUp(p, &p.mails, mostMails, func(ctx context.Context, conn *pgx.Conn, jobs []*job[*accepting]) {
		together(ctx, p, jobs, func(jobs []*job[*accepting]) error { return p.acceptBatch(ctx, conn, jobs) }, nil)
	})
}

// insertContentOf is insertContent for a mail that was accepted just now: whose idempotency key was taken
// has no row. insertRecipientOf likewise.
const (
	insertContentOf = `INSERT INTO message_contents (instance, id, key_id, ciphertext)
		SELECT instance, id, $3, $4 FROM messages WHERE instance = $1 AND id = $2`
	insertRecipientOf = `INSERT INTO message_recipients (instance, address, id)
		SELECT instance, $2, id FROM messages WHERE instance = $1 AND id = $3
		ON CONFLICT (instance, address, id) DO NOTHING`
)

// acceptBatch accepts mails in one round trip, which is one transaction.
func (p *postgresEngine) acceptBatch(ctx context.Context, conn *pgx.Conn, jobs []*job[*accepting]) error {
	var batch pgx.Batch
	for _, j := range jobs {
		m := j.ask
		batch.Queue(insertMessage, m.columns()...).Exec(func(tag pgconn.CommandTag) error {
			m.taken = tag.RowsAffected() == 0
			return nil
		})
		for _, args := range m.further() {
			batch.Queue(insertRecipientOf, args...)
		}
		batch.Queue(insertContentOf, m.Instance, m.ID, int64(m.content.KeyID), m.content.Ciphertext)
	}
	return p.committed(conn, conn.SendBatch(ctx, &batch).Close())
}
