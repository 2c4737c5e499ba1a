package sqlstore

import (
	"bytes"
	"database/sql"
	"testing"
	"time"
)

// BenchmarkBareAccept has one caller that makes each mail durable with a commit of its own: the rows are
// those of Accept, and there is nothing but database/sql between. The program in internal/bench holds
// SendMessage against it.
func BenchmarkBareAccept(b *testing.B) {
	db := open(b)
	message, content := bareStatement(b, db, insertMessage), bareStatement(b, db, insertContent)
	sealed := bytes.Repeat(body.Ciphertext[:1], len(body.Ciphertext)+256) // the text, and what is sealed with it
	for b.Loop() {
		now := time.Now()
		m := newMail(now)
		recipients, err := formatRecipients(m.Recipients)
		if err != nil {
			b.Fatal(err)
		}
		tx, err := lite(db).writer.BeginTx(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		_, err = tx.Stmt(message).Exec(m.Instance, m.ID, micros(m.Due), micros(m.Expires), micros(m.Changed),
			micros(m.Created), m.Tag, nil, m.Fingerprint, searchable(m.Recipients[0]), recipients)
		if err == nil {
			_, err = tx.Stmt(content).Exec(m.Instance, m.ID, body.KeyID, sealed)
		}
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func bareStatement(b *testing.B, db *DB, query string) *sql.Stmt {
	b.Helper()
	s, err := lite(db).writer.PrepareContext(b.Context(), query)
	if err != nil {
		b.Fatal(err)
	}
	return s
}
