package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to what this binary knows, whose version it returns. A newer one is refused: an old binary
// that writes into it would leave out what the newer one relies on.
//
// While processes of the version before go on, a migration may only add what they can do without:
// a table, a column with a default or NULL, an index. What they still use is taken away by the
// migration of the version after.
func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect, o Options) (version int64, err error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	p, err := goose.NewProvider(dialect, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(append(written(dialect), o.more...)...))
	if err != nil {
		return 0, fmt.Errorf("sqlstore: migrations: %w", err)
	}
	stored, known, err := p.GetVersions(ctx)
	if err != nil {
		return 0, fmt.Errorf("sqlstore: read the schema version: %w", err)
	}
	if stored > known {
		return 0, fmt.Errorf("sqlstore: the database has schema version %d and this program knows "+
			"versions up to %d: run a newer one", stored, known)
	}
	if _, err := p.Up(ctx); err != nil {
		return 0, fmt.Errorf("sqlstore: migrate from schema version %d to %d: %w", stored, known, err)
	}
	return known, nil
}

// written are the migrations that are not files: statements for PostgreSQL only or SQLite only, and after them
// those for both.
func written(dialect goose.Dialect) (all []*goose.Migration) {
	postgres := map[int64][]string{5: dropReferences, 7: {createChange}, 8: followMails, 10: {createChange2}, 12: keepInPlace, 14: noteEndsPostgres}
	lite := map[int64][]string{13: createSorted, 14: noteEndsSQLite}
	both := map[int64][]string{10: {addCA}}
	own := lite
	if dialect == goose.DialectPostgres {
		own = postgres
	}
	for _, version := range []int64{5, 7, 8, 10, 12, 13, 14} {
		run := func(ctx context.Context, tx *sql.Tx) error {
			for _, statement := range slices.Concat(own[version], both[version]) {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			return nil
		}
		all = append(all, goose.NewGoMigration(version, &goose.GoFunc{RunTx: run}, nil))
	}
	return all
}

// dropReferences is migration 5. Whoever adds a provider or an event holds the instance: that PostgreSQL
// looks for it once more would be a quarter of the price of a change. SQLite takes no constraint away, and
// its price is small.
var dropReferences = []string{
	`LOCK TABLE instances, providers, events IN ACCESS EXCLUSIVE MODE`, // in the order in which a change takes them
	`ALTER TABLE events DROP CONSTRAINT events_instance_fkey`,
	`ALTER TABLE providers DROP CONSTRAINT providers_instance_fkey`,
}

// createChange is migration 7: the form in which changes are sent. It never changes, since programs of the
// version before send it too: one with other columns has another name.
const createChange = `CREATE TYPE provider_change AS (
	instance text, id text, kind text, description text, sender_address text, sender_name text, reply_to text, host text,
	smtp_user text, auth text, token_endpoint text, client_id text, scopes text, endpoint text, set_by text, prev_user text,
	prev_set_by text, e_type text, e_token_id text, e_name text, e_protocol text, e_procedure text, e_user_agent text,
	e_request_id text, e_details text,
	expect bigint, expect_key bigint, credential_version bigint, key_id bigint, set_at bigint, created bigint, changed bigint,
	prev_version bigint, prev_key_id bigint, prev_set_at bigint, prev_until bigint, e_at bigint,
	removal boolean, active boolean, tls boolean,
	ciphertext bytea, prev_ciphertext bytea)`

// createChange2 is in migration 10: the form of createChange with the certificate authorities of a
// provider. Only programs of the version before send it.
const createChange2 = `CREATE TYPE provider_change_2 AS (
	instance text, id text, kind text, description text, sender_address text, sender_name text, reply_to text, host text,
	smtp_user text, auth text, token_endpoint text, client_id text, scopes text, endpoint text, set_by text, prev_user text,
	prev_set_by text, e_type text, e_token_id text, e_name text, e_protocol text, e_procedure text, e_user_agent text,
	e_request_id text, e_details text, ca text,
	expect bigint, expect_key bigint, credential_version bigint, key_id bigint, set_at bigint, created bigint, changed bigint,
	prev_version bigint, prev_key_id bigint, prev_set_at bigint, prev_until bigint, e_at bigint,
	removal boolean, active boolean, tls boolean,
	ciphertext bytea, prev_ciphertext bytea)`

// addCA is in migration 10: certificates in PEM, mostly none.
const addCA = `ALTER TABLE providers ADD COLUMN ca TEXT NOT NULL DEFAULT ''`

// followMails is migration 8. In which transaction a mail was last changed tells processes what others do
// with it; of mails from before that is not known. Contents are sealed, which can't be compressed, and most
// fit beside their mail's id: apart they cost a tenth more.
var followMails = []string{
	`ALTER TABLE messages ADD COLUMN changed_in BIGINT NOT NULL DEFAULT 0`,
	`ALTER TABLE messages ALTER COLUMN changed_in SET DEFAULT txid_current()`,
	`CREATE INDEX messages_changed ON messages (changed_in) WHERE changed_in > 0`,
	`ALTER TABLE message_contents ALTER COLUMN ciphertext SET STORAGE EXTERNAL`,
	`ALTER TABLE message_contents SET (toast_tuple_target = 8160)`,
}

// keepInPlace is migration 12. A change of a password is to touch no index: PostgreSQL then writes the row beside
// the old one and leaves all indexes alone, if there is room on its page. What is indexed of a previous
// credential is that there is one, which is not another with each change.
var keepInPlace = []string{
	`ALTER TABLE providers ADD COLUMN prev_kept BOOLEAN GENERATED ALWAYS AS (prev_version IS NOT NULL) STORED`,
	`ALTER TABLE providers SET (fillfactor = 70)`,
	`DROP INDEX providers_previous`,
	`CREATE INDEX providers_previous ON providers (instance, id) WHERE prev_kept`,
}
