package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"
	"time"
)

// The benchmarks in this file are what the program in internal/bench holds the service against: one
// caller that makes each thing durable with a commit of its own, and nothing but database/sql between.
// More callers would not make them faster: there is one disk to wait for.

// bareTables are what a password and a record of its changes need at least.
const bareTables = `
	CREATE TABLE bare_providers (
		id INTEGER PRIMARY KEY, password BLOB NOT NULL, version INTEGER NOT NULL, changed INTEGER NOT NULL
	);
	CREATE TABLE bare_events (
		id INTEGER PRIMARY KEY, provider INTEGER NOT NULL, at INTEGER NOT NULL, type TEXT NOT NULL, details TEXT NOT NULL
	);
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
		INSERT INTO bare_providers SELECT i, zeroblob(60), 1, 0 FROM n`

// BenchmarkBareChange changes passwords in tables of its own, with the settings that the store has.
func BenchmarkBareChange(b *testing.B) {
	path := filepath.Join(b.TempDir(), "db")
	if err := createPrivate(path); err != nil {
		b.Fatal(err)
	}
	db, err := openPool(path, Options{}, url.Values{"_txlock": {"immediate"}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(b.Context(), bareTables); err != nil {
		b.Fatal(err)
	}
	update := bareStatement(b, db, `UPDATE bare_providers SET password = $1, version = version + 1, changed = $2 WHERE id = $3`)
	insert := bareStatement(b, db, `INSERT INTO bare_events (provider, at, type, details) VALUES ($1, $2, $3, $4)`)
	password := bytes.Repeat([]byte("x"), 60)
	changes := 0
	for b.Loop() {
		id, now := changes%1000+1, time.Now().UnixMicro()
		bareCommit(b, db, func(tx *sql.Tx) error {
			if _, err := tx.Stmt(update).Exec(password, now, id); err != nil {
				return err
			}
			_, err := tx.Stmt(insert).Exec(id, now, "provider.password_changed", `{"fields":["password"]}`)
			return err
		})
		changes++
	}
	var kept int
	if err := db.QueryRowContext(b.Context(), `SELECT count(*) FROM bare_events`).Scan(&kept); err != nil || kept != changes {
		b.Errorf("%d changes were made, and there are %d (%v)", changes, kept, err)
	}
}

// BenchmarkBareAccept takes mails, as the rows that Accept makes of them.
func BenchmarkBareAccept(b *testing.B) {
	db := open(b)
	writer := lite(db).writer
	message, content := bareStatement(b, writer, insertMessage), bareStatement(b, writer, insertContent)
	sealed := bytes.Repeat(body.Ciphertext[:1], len(body.Ciphertext)+256) // the text, and what is sealed with it
	for b.Loop() {
		m := newMail(time.Now())
		recipients, err := formatRecipients(m.Recipients)
		if err != nil {
			b.Fatal(err)
		}
		bareCommit(b, writer, func(tx *sql.Tx) error {
			_, err := tx.Stmt(message).Exec(m.Instance, m.ID, micros(m.Due), micros(m.Expires), micros(m.Changed),
				micros(m.Created), m.Tag, nil, m.Fingerprint, searchable(m.Recipients[0]), recipients)
			if err != nil {
				return err
			}
			_, err = tx.Stmt(content).Exec(m.Instance, m.ID, body.KeyID, sealed)
			return err
		})
	}
}

func bareStatement(b *testing.B, db *sql.DB, query string) *sql.Stmt {
	b.Helper()
	s, err := db.PrepareContext(b.Context(), query)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func bareCommit(b *testing.B, db *sql.DB, do func(*sql.Tx) error) {
	b.Helper()
	tx, err := db.BeginTx(context.Background(), nil)
	if err == nil {
		err = do(tx)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		b.Fatal(err)
	}
}
