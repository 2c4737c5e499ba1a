package sqlstore

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/audit"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// keys are audit.Keys; the first one is that of new events.
type keys []uint32

var ownKeys, otherKeys = keys{7}, keys{9}

func (k keys) AuditKey(id uint32) (uint32, []byte, error) {
	if id == 0 {
		id = k[0]
	}
	if !slices.Contains(k, id) {
		return 0, nil, fmt.Errorf("no key %d", id)
	}
	return id, bytes.Repeat([]byte{byte(id)}, 32), nil
}

func (k keys) AuditKeys() []uint32 { return k }

// verify verifies an instance to its end, in pages of two events.
func verify(t *testing.T, store audit.Store, chain *audit.Chain, instance string) (all audit.Report) {
	t.Helper()
	for all.More = true; all.More; {
		page, err := audit.Verifier{Store: store, Chain: chain}.Verify(t.Context(), instance, all.Next, 2)
		if err != nil {
			t.Fatal(err)
		}
		page.Findings = slices.Concat(all.Findings, page.Findings)
		page.Checked, page.Before = page.Checked+all.Checked, page.Before+all.Before
		if page.More && page.Next.After <= all.Next.After {
			t.Fatal("it does not come further")
		}
		all = page
	}
	return all
}

// history makes 12 events in each of two instances.
func history(t *testing.T, db *DB) map[string]*emailprovider.Provider {
	t.Helper()
	latest := map[string]*emailprovider.Provider{}
	for n, instance := range []string{"default", "other"} {
		p := provider(n + 1)
		p.Instance = instance
		latest[instance] = &p
		changeProvider(t, db, &p, added(p))
		for range 11 {
			changeProvider(t, db, &p, updated(p))
		}
	}
	return latest
}

// changeProvider makes a change of p.
func changeProvider(t testing.TB, db *DB, p *emailprovider.Provider, c emailprovider.Change) {
	t.Helper()
	sequence, err := db.Apply(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p.Sequence = sequence
}

// tampering is what somebody does who has the database and not the keyset.
type tampering struct {
	name string
	do   []string
	// named are the events that are not as they were, by instance: the first and the last.
	named map[string][2]uint64
}

// here names events of the default instance.
func here(first, last uint64) map[string][2]uint64 {
	return map[string][2]uint64{"default": {first, last}}
}

const (
	ofFive      = ` WHERE instance = 'default' AND sequence = 5`
	setSequence = `UPDATE instances SET sequence = %d WHERE id = 'default'`
	forged      = `INSERT INTO events (instance, sequence, type, provider_id, at, token_id, name, protocol, procedure, user_agent, request_id, details, chain)
		SELECT instance, sequence + %d, type, provider_id, at, token_id, name, protocol, procedure, user_agent, request_id, details, chain
		FROM events WHERE instance = 'default' AND sequence = %d`
	withHead = `UPDATE instances SET chain_head = (SELECT chain_head FROM instances WHERE id = 'other') WHERE id = 'default'`
)

func tamperings() (all []tampering) {
	for _, column := range []string{"type", "provider_id", "token_id", "name", "protocol", "procedure", "user_agent", "request_id", "details"} {
		all = append(all, tampering{column, []string{`UPDATE events SET ` + column + ` = ` + column + ` || ' '` + ofFive}, here(5, 5)})
	}
	move := func(from, to int) string {
		return fmt.Sprintf(`UPDATE events SET sequence = %d WHERE instance = 'default' AND sequence = %d`, to, from)
	}
	drop := func(condition string) string { return `DELETE FROM events WHERE instance = 'default' AND ` + condition }
	count := func(n int) string { return fmt.Sprintf(setSequence, n) }
	younger := `UPDATE providers SET sequence = 1`
	return append(all, []tampering{
		{"time", []string{`UPDATE events SET at = at + 1` + ofFive}, here(5, 5)},
		{"text moved to the next column", []string{`UPDATE events SET name = '', protocol = name || protocol` + ofFive}, here(5, 5)},
		{"chain of another event", []string{`UPDATE events SET chain = (SELECT chain FROM events WHERE instance = 'default' AND sequence = 6)` + ofFive}, here(5, 5)},
		{"no chain", []string{`UPDATE events SET chain = NULL` + ofFive}, here(5, 5)},
		{"no chain at the beginning", []string{`UPDATE events SET chain = NULL WHERE instance = 'default' AND sequence < 4`}, here(1, 3)},
		{"no chain at the end", []string{`UPDATE events SET chain = NULL WHERE instance = 'default' AND sequence = 12`}, here(12, 12)},
		{"no chain at all", []string{`UPDATE events SET chain = NULL`, `UPDATE instances SET chain_head = NULL`}, map[string][2]uint64{"default": {1, 12}, "other": {1, 12}}},
		{"first dropped", []string{drop(`sequence = 1`)}, here(1, 1)},
		{"one dropped", []string{drop(`sequence = 5`)}, here(5, 5)},
		{"several dropped", []string{drop(`sequence BETWEEN 4 AND 7`)}, here(4, 7)},
		{"last dropped", []string{drop(`sequence = 12`)}, here(12, 12)},
		{"last dropped, counted", []string{drop(`sequence > 10`), count(10), younger}, here(10, 10)},
		{"last dropped, another's head", []string{drop(`sequence > 10`), count(10), younger, withHead}, here(10, 10)},
		{"last dropped, no head", []string{drop(`sequence > 10`), count(10), younger, `UPDATE instances SET chain_head = NULL`}, map[string][2]uint64{"default": {10, 10}, "other": {12, 12}}},
		{"all dropped", []string{drop(`sequence > 0`)}, here(1, 12)},
		{"all dropped, counted", []string{drop(`sequence > 0`), count(0), younger}, here(0, 1)},
		{"all dropped, of a provider that is there", []string{drop(`sequence > 0`), count(0), `UPDATE instances SET chain_head = NULL WHERE id = 'default'`}, here(1, 12)},
		{"first dropped, others moved", []string{drop(`sequence = 1`), `UPDATE events SET sequence = -sequence WHERE instance = 'default'`,
			`UPDATE events SET sequence = -sequence - 1 WHERE instance = 'default'`, count(11), younger}, here(1, 11)},
		{"two swapped", []string{move(5, 99), move(8, 5), move(99, 8)}, here(5, 8)},
		{"neighbours swapped", []string{move(5, 99), move(6, 5), move(99, 6)}, here(5, 6)},
		{"moved to the end", []string{move(5, 13), count(13)}, here(5, 13)},
		{"moved beyond the end", []string{move(5, 13)}, here(5, 13)},
		{"moved to another instance", []string{`DELETE FROM events WHERE instance = 'other' AND sequence = 5`,
			`UPDATE events SET instance = 'other'` + ofFive}, map[string][2]uint64{"default": {5, 5}, "other": {5, 5}}},
		{"made up at the end", []string{fmt.Sprintf(forged, 1, 12), count(13)}, here(13, 13)},
		{"made up beyond the end", []string{fmt.Sprintf(forged, 5, 12)}, here(13, 17)},
		{"made up in place of another", []string{drop(`sequence = 7`), fmt.Sprintf(forged, 1, 6)}, here(7, 7)},
		{"another head", []string{withHead}, here(12, 12)},
		{"a higher count", []string{count(14)}, here(13, 14)},
		{"a lower count", []string{count(10)}, here(11, 12)},
	}...)
}

// saved are the rows of the tables that tampering changes, by their columns.
type saved map[string][]map[string]any

var tampered = []string{"events", "providers", "instances"} // those that refer to others first

func save(t *testing.T, db *DB) saved {
	t.Helper()
	found := saved{}
	for _, table := range tampered {
		rows, err := db.reader.QueryContext(t.Context(), `SELECT * FROM `+table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		found[table], err = collect(rows, err, func() (map[string]any, error) {
			values, to, row := make([]any, len(columns)), make([]any, len(columns)), map[string]any{}
			for i := range values {
				to[i] = &values[i]
			}
			err := rows.Scan(to...)
			for i, name := range columns {
				row[name] = values[i]
			}
			delete(row, "prev_kept") // which PostgreSQL makes itself
			return row, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// put brings the rows back.
func (s saved) put(t *testing.T, db *DB) {
	t.Helper()
	for _, table := range tampered {
		execute(t, db, `DELETE FROM `+table)
	}
	for _, table := range slices.Backward(tampered) {
		for _, row := range s[table] {
			columns := slices.Sorted(maps.Keys(row))
			var places []string
			var values []any
			for i, name := range columns {
				places, values = append(places, fmt.Sprintf("$%d", i+1)), append(values, row[name])
			}
			execute(t, db, `INSERT INTO `+table+` (`+strings.Join(columns, ", ")+`) VALUES (`+strings.Join(places, ", ")+`)`, values...)
		}
	}
}

func execute(t *testing.T, db *DB, query string, args ...any) {
	t.Helper()
	err := db.write(t.Context(), func(l *line) error {
		_, err := l.exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// names reports whether the findings are about what was tampered with, and nothing else.
func names(findings []audit.Finding, want [2]uint64) bool {
	return len(findings) > 0 && !slices.ContainsFunc(findings, func(f audit.Finding) bool {
		return f.First < want[0] || f.Last > want[1]
	}) && findings[0].First <= want[0]+1
}

// TestTampering changes what is stored in every way that there is, and wants it named.
func TestTampering(t *testing.T) {
	all, named, mistaken := 0, 0, 0
	onEach(t, func(t *testing.T, open opener) {
		db := open(t, "other")
		latest := history(t, db)
		intact := save(t, db)
		chain := audit.New(ownKeys)
		for _, instance := range slices.Sorted(maps.Keys(latest)) {
			if r := verify(t, db, chain, instance); len(r.Findings) > 0 || r.Checked != 12 || r.Before != 0 || len(r.Head) == 0 {
				t.Fatalf("instance %s, as it was: %+v", instance, r)
			}
		}
		try := func(c tampering) {
			for _, query := range c.do {
				execute(t, db, query)
			}
			all++
			right := true
			for instance := range latest {
				findings := verify(t, db, chain, instance).Findings
				want, tampered := c.named[instance]
				if tampered && !names(findings, want) {
					right = false
					t.Errorf("%s, instance %s: found %v, want %v", c.name, instance, findings, want)
				}
				if !tampered && len(findings) > 0 {
					mistaken++
					t.Errorf("%s: found %v in instance %s", c.name, findings, instance)
				}
			}
			if right {
				named++
			}
			intact.put(t, db)
		}
		for _, c := range tamperings() {
			try(c)
		}
		try(fork(t, db, latest["default"], intact))
	})
	t.Logf("REL audit tamperings=%d named=%d false=%d", all, named, mistaken)
}

// fork has two histories of the same beginning, and puts an event of one into the other. Each was recorded
// with its sequence: only the links tell.
func fork(t *testing.T, db *DB, p *emailprovider.Provider, intact saved) tampering {
	t.Helper()
	before := *p
	other := updated(before)
	other.Event.By.Name = "somebody else"
	changeProvider(t, db, &before, other)
	var aside map[string]any
	for _, row := range save(t, db)["events"] {
		if row["instance"] == "default" && row["sequence"] == int64(13) {
			aside = row
		}
	}
	intact.put(t, db)
	changeProvider(t, db, p, updated(*p))
	changeProvider(t, db, p, updated(*p))
	clear(intact)
	maps.Copy(intact, save(t, db))
	chain := aside["chain"].([]byte)
	return tampering{"an event of another history", []string{
		fmt.Sprintf(`UPDATE events SET name = 'somebody else', chain = %s WHERE instance = 'default' AND sequence = 13`, literal(db, chain)),
	}, here(13, 14)}
}

func literal(db *DB, b []byte) string {
	if _, ok := db.engine.(*postgresEngine); ok {
		return fmt.Sprintf(`'\x%x'`, b)
	}
	return fmt.Sprintf(`x'%x'`, b)
}
