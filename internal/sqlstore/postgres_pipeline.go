package sqlstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pipeline is statements that go to the server together, in one round trip and one transaction. It speaks
// the wire's own format: encoding hundreds of values by their types would cost more than all the rest.
type pipeline struct {
	conn       *pgx.Conn
	statements []piped
}

type piped struct {
	description *pgconn.StatementDescription
	params      params
	read        func(*pgconn.ResultReader) error // nil for nothing to read
}

// add adds a statement, which is prepared once for each connection.
func (p *pipeline) add(ctx context.Context, query string, params params, read func(*pgconn.ResultReader) error) error {
	description, err := p.conn.Prepare(ctx, query, query)
	if err != nil {
		return err
	}
	p.statements = append(p.statements, piped{description, params, read})
	return nil
}

// binaryFormat asks for it for all parameters, or all columns.
var binaryFormat = []int16{pgx.BinaryFormatCode}

// run sends the statements. Nothing of them was done if it returns an error of the server's.
func (p *pipeline) run(ctx context.Context) error {
	sent := p.conn.PgConn().StartPipeline(ctx)
	for _, s := range p.statements {
		sent.SendQueryStatement(s.description, s.params.values(), binaryFormat, binaryFormat)
	}
	err := sent.Sync()
	for i := 0; i < len(p.statements) && err == nil; i++ {
		err = p.statements[i].receive(sent)
	}
	if err == nil {
		_, err = sent.GetResults() // the end of the transaction
	}
	if closed := sent.Close(); err == nil {
		err = closed
	}
	return err
}

func (s piped) receive(sent *pgconn.Pipeline) error {
	results, err := sent.GetResults()
	if err != nil {
		return err
	}
	reader := results.(*pgconn.ResultReader)
	if s.read != nil {
		if err := s.read(reader); err != nil {
			return err
		}
	}
	_, err = reader.Close()
	return err
}

// params are parameters of a statement in the binary format, one after the other.
type params struct {
	buffer []byte
	ends   []int
}

// values returns each.
func (p *params) values() [][]byte {
	all := make([][]byte, len(p.ends))
	from := 0
	for i, end := range p.ends {
		all[i] = p.buffer[from:end:end]
		from = end
	}
	return all
}

func (p *params) end() { p.ends = append(p.ends, len(p.buffer)) }

func (p *params) text(v string) {
	p.buffer = append(p.buffer, v...)
	p.end()
}

func (p *params) number(v int64) {
	p.buffer = binary.BigEndian.AppendUint64(p.buffer, uint64(v))
	p.end()
}

func flagByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// Object identifiers of types (PostgreSQL, pg_type.dat).
const (
	boolType  = 16
	byteaType = 17
	int8Type  = 20
	textType  = 25
)

// array begins an array of n elements of a type, which must follow, and then end.
func (p *params) array(n int, of uint32) {
	for _, word := range []uint32{1 /* dimension */, 0 /* NULLs */, of, uint32(n), 1 /* lower bound */} {
		p.word(word)
	}
}

func (p *params) word(v uint32) { p.buffer = binary.BigEndian.AppendUint32(p.buffer, v) }

// null is an element that is NULL. The server does not rely on what the beginning says of such.
func (p *params) null() { p.word(1<<32 - 1) }

func (p *params) element(v string) {
	p.word(uint32(len(v)))
	p.buffer = append(p.buffer, v...)
}

// texts is an array of texts.
func (p *params) texts(all []string) {
	p.array(len(all), textType)
	for _, v := range all {
		p.element(v)
	}
	p.end()
}

// eachRow calls f with each row of the results.
func eachRow(f func(binaryRow) error) func(*pgconn.ResultReader) error {
	return func(results *pgconn.ResultReader) error {
		for results.NextRow() {
			if err := f(results.Values()); err != nil {
				return err
			}
		}
		return nil
	}
}

// binaryRow is a row in the binary format, which does not say what types its columns are of: what a column is
// scanned into must be of its type.
type binaryRow [][]byte

// Scan implements scanner. What it sets is the caller's.
func (r binaryRow) Scan(dest ...any) error {
	if len(dest) != len(r) {
		return fmt.Errorf("sqlstore: %d columns for %d variables", len(r), len(dest))
	}
	for i, to := range dest {
		if !assignBinary(to, r[i]) {
			return fmt.Errorf("sqlstore: column %d, of %d bytes, does not fit a %T", i+1, len(r[i]), to)
		}
	}
	return nil
}

func assignBinary(to any, v []byte) bool {
	switch to := to.(type) {
	case *string:
		*to = string(v)
		return v != nil
	case *[]byte:
		*to = bytes.Clone(v)
		return true
	case *bool:
		*to = len(v) == 1 && v[0] != 0
		return len(v) == 1
	}
	return len(v) == 8 && assignNumber(to, int64(binary.BigEndian.Uint64(v)))
}
