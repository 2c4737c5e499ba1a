package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/deprecation"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	instancetest "github.com/mailkeep/mailkeep/internal/instance/storetest"
)

// AddInstance adds an instance that has nothing, not even a key.
func (db *DB) AddInstance(ctx context.Context, id string) error {
	return db.write(ctx, func(l *line) error {
		_, err := l.exec(`INSERT INTO instances (id, created) VALUES ($1, $2)`, id, micros(db.now()))
		return err
	})
}

func TestInstanceStore(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		instancetest.Run(t, func(t *testing.T) instancetest.Store { return open(t) })
	})
}

// withoutInstance are the tables and unique indexes that no instance is part of, and why.
var withoutInstance = map[string]string{
	"copies":            "how far a copy of the whole database is",
	"key_checks":        "about the keyset, which is the installation's",
	"goose_db_version":  "the version of the schema",
	"sqlite_sequence":   "SQLite's own, for goose_db_version",
	"removed_instances": "its id is the instance",
	"instances":         "its id is the instance",

	"instance_domains(domain)": "a host is one instance's",
	"tokens(hash)":             "a token says which instance it is for",
	"revoked_tokens(hash)":     "a revoked token is revoked everywhere",
	"events(provider_id)":      "an id of a provider is given once, over all instances",
	"copies(role,table_name)":  "as the table",
	"key_checks(key_id)":       "as the table",
	"instances(id)":            "as the table",
	"removed_instances(id)":    "as the table",
	"goose_db_version(id)":     "as the table",
}

// TestEveryTableHasTheInstance reads the schema: each table has a column for the instance, which is part of
// each unique index.
func TestEveryTableHasTheInstance(t *testing.T) {
	const (
		liteTables = `SELECT m.name, group_concat(c.name) FROM sqlite_master AS m, pragma_table_info(m.name) AS c
			WHERE m.type = 'table' GROUP BY m.name`
		liteIndexes = `SELECT m.name || '(' || (SELECT group_concat(name) FROM pragma_index_info(i.name)) || ')'
			FROM sqlite_master AS m, pragma_index_list(m.name) AS i WHERE m.type = 'table' AND i."unique"`
		postgresTables = `SELECT table_name, string_agg(column_name, ',') FROM information_schema.columns
			WHERE table_schema = current_schema() GROUP BY table_name`
		postgresIndexes = `SELECT i.indrelid::regclass || '(' || (SELECT string_agg(a.attname, ',' ORDER BY k.n)
				FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, n) JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) || ')'
			FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_namespace AS s ON s.oid = c.relnamespace
			WHERE i.indisunique AND s.nspname = current_schema()`
	)
	databases := map[string]struct {
		open            opener
		tables, indexes string
	}{"SQLite": {open, liteTables, liteIndexes}, "PostgreSQL": {openPostgres, postgresTables, postgresIndexes}}
	used, read := map[string]bool{}, 0
	for name, c := range databases {
		t.Run(name, func(t *testing.T) {
			db := c.open(t)
			read++
			tables, indexes := shared(t, db, c.tables, c.indexes, used)
			if len(tables)+len(indexes) > 0 {
				t.Errorf("without the instance, and with no reason for it: %q, %q", tables, indexes)
			}
			_, err := writerOf(db).ExecContext(t.Context(), `CREATE TABLE leak (id TEXT PRIMARY KEY)`)
			must(t, err)
			_, err = writerOf(db).ExecContext(t.Context(), `CREATE UNIQUE INDEX leaking ON providers (id)`)
			must(t, err)
			tables, indexes = shared(t, db, c.tables, c.indexes, used)
			if !slices.Equal(tables, []string{"leak"}) || !slices.Equal(indexes, []string{"leak(id)", "providers(id)"}) {
				t.Errorf("red control: a table and an index without the instance are not noticed: %q, %q", tables, indexes)
			}
		})
	}
	for name := range withoutInstance {
		if read == len(databases) && !used[name] { // it may be PostgreSQL's, which is not installed everywhere
			t.Errorf("%s is an exception and does not exist", name)
		}
	}
}

// writerOf is a way to change the schema.
func writerOf(db *DB) *sql.DB {
	if s, ok := db.engine.(*sqliteEngine); ok {
		return s.writer
	}
	return db.reader
}

// shared returns the tables and unique indexes that no instance is part of, without those that may be.
func shared(t *testing.T, db *DB, selectTables, selectIndexes string, used map[string]bool) (tables, indexes []string) {
	t.Helper()
	excepted := func(name string) bool {
		_, ok := withoutInstance[name]
		used[name] = true
		return ok
	}
	_, err := all(t.Context(), db, func(row scanner) (none struct{}, err error) {
		var name, columns string
		err = row.Scan(&name, &columns)
		if !slices.Contains(strings.Split(columns, ","), "instance") && !excepted(name) {
			tables = append(tables, name)
		}
		return none, err
	}, selectTables)
	must(t, err)
	_, err = all(t.Context(), db, func(row scanner) (none struct{}, err error) {
		var index string
		err = row.Scan(&index)
		_, columns, _ := strings.Cut(strings.TrimSuffix(index, ")"), "(")
		if !slices.Contains(strings.Split(columns, ","), "instance") && !excepted(index) {
			indexes = append(indexes, index)
		}
		return none, err
	}, selectIndexes)
	must(t, err)
	slices.Sort(tables)
	slices.Sort(indexes)
	return tables, indexes
}

// TestRemovedRows: nothing of a removed instance is left in any table, and nothing of another is missing.
func TestRemovedRows(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		db := open(t)
		for _, id := range []string{"gone", "stays"} {
			fillInstance(t, db, id)
		}
		before := rowsOf(t, db, "stays")
		for _, p := range db.purged() {
			if rowsOf(t, db, "gone")[p.table] == 0 {
				t.Errorf("the test has nothing in %s", p.table)
			}
		}
		must(t, db.RemoveInstance(t.Context(), "gone", "me"))
		for _, p := range db.purged() {
			if n := rowsOf(t, db, "gone")[p.table]; p.first && n > 0 {
				t.Errorf("%d rows of %s can be used after the removal", n, p.table)
			}
		}
		must(t, db.FinishRemovals(t.Context()))
		for table, n := range rowsOf(t, db, "gone") {
			if n > 0 {
				t.Errorf("%d rows of %s are left", n, table)
			}
		}
		if diff := cmp.Diff(before, rowsOf(t, db, "stays")); diff != "" {
			t.Errorf("rows of another instance (-before +after):\n%s", diff)
		}
		p := provider(99)
		p.Instance = "gone"
		if _, err := db.Apply(t.Context(), added(p)); err == nil {
			t.Error("a removed instance gets a provider")
		}
		if n := rowsOf(t, db, "gone")["providers"] + rowsOf(t, db, "gone")["events"]; n > 0 {
			t.Errorf("a removed instance has got %d rows", n)
		}
	})
}

// fillInstance makes an instance that has something in every table.
func fillInstance(t *testing.T, db *DB, id string) {
	t.Helper()
	owner := auth.Token{Instance: id, ID: "1", Name: "n", Hash: sha256.Sum256([]byte(id)), Roles: []string{"IAM_OWNER"}}
	must(t, db.CreateInstance(t.Context(), instance.New{
		Instance: instance.Instance{ID: id, Name: id, Domains: []string{id + ".example"}},
		Key:      instance.Key{Instance: id, ID: 1, Wrapped: emailprovider.Sealed{KeyID: 2, Ciphertext: []byte("w")}}, Owner: owner,
	}))
	owner.ID, owner.Hash = "2", sha256.Sum256([]byte(id+"2"))
	must(t, db.PutToken(t.Context(), owner))
	must(t, db.RevokeToken(t.Context(), id, "2", anyToken))
	p := provider(len(id)) // another id for each
	p.Instance = id
	p.Previous = emailprovider.Previous{Credential: p.Credential, User: "u", Until: start}
	_, err := db.Apply(t.Context(), added(p))
	must(t, err)
	must(t, db.AddUses(t.Context(), []deprecation.Use{{Instance: id, Method: "M", Caller: "c", UserAgent: "u", Calls: 1, First: start, Last: start}}))
	if _, ok := db.engine.(*sqliteEngine); ok {
		run(t, lite(db).writer, `INSERT INTO sorted_events VALUES ('`+id+`', 'p', 1)`)
		run(t, lite(db).writer, `INSERT INTO sorted_until VALUES ('`+id+`', 1)`)
	}
	// What takes a delivery to get, enough of it for several batches.
	must(t, db.write(t.Context(), func(l *line) error {
		for n := range purgeBatch + 1 {
			for _, statement := range []string{
				`INSERT INTO messages VALUES ($1, $2, 'queued', TRUE, 0, 0, 0, 0, 0, 0, '', 0, '', NULL, NULL, 'r', '[]', '', NULL`,
				`INSERT INTO message_contents VALUES ($1, $2, 1, 'c'`,
				`INSERT INTO message_recipients VALUES ($1, $2, 'r'`,
				`INSERT INTO attempts VALUES ($1, $2, 1, '{}'`,
				`INSERT INTO credential_uses VALUES ($1, $2, 1, 0, 0, 0, '', 0, '', 0, 0, 0, 0`,
			} {
				if _, err := l.exec(statement+`)`, id, strconv.Itoa(n)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// rowsOf counts what an instance has in each table.
func rowsOf(t *testing.T, db *DB, id string) map[string]int {
	t.Helper()
	found := map[string]int{}
	tables := slices.Clone(copied)
	for _, p := range db.purged() {
		if !slices.Contains(tables, p.table) {
			tables = append(tables, p.table)
		}
	}
	for _, table := range tables {
		if table == "key_checks" || table == "removed_instances" {
			continue
		}
		column := "instance"
		if table == "instances" {
			column = "id"
		}
		var n int
		must(t, db.one(t.Context(), `SELECT count(*) FROM `+table+` WHERE `+column+` = $1`, id).Scan(&n))
		found[table] = n
	}
	return found
}

// TestRemovedInstanceIsErased looks for the wrapped key, a secret and a body in every file of the database.
func TestRemovedInstanceIsErased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := openAt(t, path, Options{})
	must(t, db.CreateInstance(t.Context(), instance.New{
		Instance: instance.Instance{ID: "gone"},
		Key:      instance.Key{Instance: "gone", ID: 1, Wrapped: emailprovider.Sealed{KeyID: 2, Ciphertext: []byte("wr4pp3d")}},
		Owner:    auth.Token{Instance: "gone", ID: "1", Hash: sha256.Sum256([]byte("gone"))},
	}))
	p := provider(1)
	p.Instance, p.Credential.Sealed.Ciphertext = "gone", []byte("c1ph3rt3xt")
	_, err := db.Apply(t.Context(), added(p))
	must(t, err)
	run(t, lite(db).writer, `INSERT INTO message_contents VALUES ('gone', '1', 1, 'b0dy')`)
	erased := func(secrets ...string) (are bool) {
		t.Helper()
		for _, secret := range secrets {
			are = are || len(holding(t, path, secret)) == 0
		}
		return are
	}
	if erased("wr4pp3d", "c1ph3rt3xt", "b0dy") {
		t.Fatal("red control: something can't be found while it is stored")
	}
	must(t, db.RemoveInstance(t.Context(), "gone", "me"))
	if !erased("wr4pp3d") || !erased("c1ph3rt3xt") {
		t.Error("the key or a secret is still in a file")
	}
	must(t, db.FinishRemovals(t.Context()))
	if !erased("b0dy") {
		t.Error("a body is still in a file")
	}
}
