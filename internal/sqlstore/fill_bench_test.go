package sqlstore

import (
	"flag"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	fillPath   = flag.String("fill", "", "BenchmarkFill: `file` of the database to fill")
	fillCopies = flag.Int("copies", 0, "BenchmarkFill: how many copies to make of its provider")
)

// BenchmarkFill copies the only provider of a database, and the event that says that it was added. The
// copies have the ids after its own, and their secrets can't be opened. The program in internal/bench
// has no faster way to a million providers.
func BenchmarkFill(b *testing.B) {
	if *fillPath == "" {
		b.Skip("fills the database of -fill")
	}
	db := openAt(b, *fillPath, Options{})
	for b.Loop() {
		copyFirst(b, db, "providers", *fillCopies, map[string]string{
			"id": `printf('%018d', id + i)`, "created": `created + i`, "changed": `changed + i`, "sequence": `sequence + i`,
		})
		copyFirst(b, db, "events", *fillCopies, map[string]string{
			"provider_id": `printf('%018d', provider_id + i)`, "at": `at + i`, "sequence": `sequence + i`,
		})
		run(b, lite(db).writer, `UPDATE instances SET sequence = sequence + `+strconv.Itoa(*fillCopies))
		for _, statement := range slices.Concat([]string{`DELETE FROM sorted_events`, `DELETE FROM sorted_until`}, sortAll) {
			run(b, lite(db).writer, statement)
		}
	}
}

// copyFirst copies the row of a table that was inserted first; changed are the columns that are not the same in copy i.
func copyFirst(b *testing.B, db *DB, table string, copies int, changed map[string]string) {
	b.Helper()
	const atOnce = 100_000
	rows, err := lite(db).writer.QueryContext(b.Context(), `SELECT name FROM pragma_table_info($1)`, table)
	names, err := collect(rows, err, func() (name string, _ error) { return name, rows.Scan(&name) })
	if err != nil {
		b.Fatal(err)
	}
	values := slices.Clone(names)
	for i, name := range names {
		if value, ok := changed[name]; ok {
			values[i] = value
		}
	}
	query := `WITH RECURSIVE n (i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
		INSERT INTO ` + table + ` (` + strings.Join(names, ", ") + `)
		SELECT ` + strings.Join(values, ", ") + ` FROM ` + table + `, n WHERE rowid = 1`
	for from := 1; from <= copies; from += atOnce {
		if _, err := lite(db).writer.ExecContext(b.Context(), query, from, min(from+atOnce-1, copies)); err != nil {
			b.Fatal(err)
		}
	}
}
