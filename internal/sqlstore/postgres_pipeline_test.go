package sqlstore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestBinaryRows reads one column of each type from a server, and sees that what does not fit is refused.
func TestBinaryRows(t *testing.T) {
	db := openPostgres(t)
	read := func(columns string, dest ...any) error {
		conn, err := sharedEngine(db).pool.Acquire(t.Context())
		must(t, err)
		defer conn.Release()
		p := pipeline{conn: conn.Conn()}
		must(t, p.add(t.Context(), "SELECT "+columns, params{}, eachRow(func(row binaryRow) error { return row.Scan(dest...) })))
		return p.run(t.Context())
	}
	var (
		text    string
		number  int64
		natural uint64
		small   uint32
		flag    bool
		bytes   = []byte("before")
		none    = []byte("before")
	)
	err := read(`'wörd'::text, -5::bigint, 1::bigint << 62, 4294967295::bigint, true, '\x00ff'::bytea, NULL::bytea`,
		&text, &number, &natural, &small, &flag, &bytes, &none)
	must(t, err)
	if text != "wörd" || number != -5 || natural != 1<<62 || small != 1<<32-1 || !flag || string(bytes) != "\x00\xff" || none != nil {
		t.Errorf("read %q %d %d %d %t %x %v", text, number, natural, small, flag, bytes, none)
	}
	for columns, dest := range map[string]any{
		"NULL::text": &text, "NULL::bigint": &number, "5::integer": &number, "-5::bigint": &natural, "1::bigint << 33": &small, "NULL::boolean": &flag,
	} {
		if err := read(columns, dest); err == nil || !strings.Contains(err.Error(), "does not fit") {
			t.Errorf("%s into a %T: %v, want an error", columns, dest, err)
		}
	}
	if err := read("1::bigint, 2::bigint", &number); err == nil {
		t.Error("two columns fit one variable")
	}
}

// TestPipelineFails has the second of three statements fail: nothing was done, and the connection goes on.
func TestPipelineFails(t *testing.T) {
	db := openPostgres(t)
	conn, err := sharedEngine(db).pool.Acquire(t.Context())
	must(t, err)
	defer conn.Release()
	try := func(second string) error {
		p := pipeline{conn: conn.Conn()}
		for _, query := range []string{`UPDATE instances SET sequence = sequence + 1`, second, `UPDATE instances SET created = created + 1`} {
			must(t, p.add(context.Background(), query, params{}, nil))
		}
		return p.run(t.Context())
	}
	var server *pgconn.PgError
	if err := try(`SELECT 1 / (SELECT created - created FROM instances)`); !errors.As(err, &server) || server.Code != "22012" {
		t.Errorf("a division by zero: %v", err)
	}
	must(t, try(`SELECT 1`))
	var sequence, created int64
	must(t, db.reader.QueryRowContext(t.Context(), `SELECT sequence, created FROM instances`).Scan(&sequence, &created))
	if sequence != 1 || created != 1 {
		t.Errorf("sequence %d, created %d, want 1 of each", sequence, created)
	}
}
