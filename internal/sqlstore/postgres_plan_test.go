package sqlstore

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestPostgresPlans asks PostgreSQL how it would run what workers ask over and over, when its statistics are
// the worst: of tables that were empty. Processes keep a plan for long, so it must be one for full tables.
func TestPostgresPlans(t *testing.T) {
	for name, statistics := range map[string]string{"none": "SELECT 1", "of empty tables": "VACUUM ANALYZE"} {
		t.Run(name, func(t *testing.T) {
			db := openPostgres(t)
			if _, err := db.reader.ExecContext(t.Context(), statistics); err != nil {
				t.Fatal(err)
			}
			testPostgresPlans(t, db)
		})
	}
}

const (
	byMessageKey = "using messages_pkey on messages m: ((instance = s.instance) AND (id = s.id))"
	byPlace      = "Tid Scan on messages m: (ctid = "
)

// byChange is how a change finds what it is of.
var byChange = []string{
	"using instances_pkey on instances: (id = ($2)[c.n])",
	"using providers_pkey on providers: ((instance = ($2)[c.n]) AND (id = ($3)[c.n]))",
	"Tid Scan on providers p: (ctid = c.place)",
	"Tid Scan on instances i: (ctid = c.instance_place)",
}

func testPostgresPlans(t *testing.T, db *DB) {
	for name, c := range map[string]struct {
		query string
		want  []string
	}{
		"claim": {takeDue, []string{
			"using messages_due on messages m: ((instance = $1) AND (due <= $2))",
			"using message_contents_pkey on message_contents c: ((instance = m.instance) AND (id = m.id))",
			"using credential_uses_pkey on credential_uses u: ((instance = p.instance) AND (provider_id = p.id) AND (version = p.credential_version))",
			byPlace,
		}},
		"claim: breaker": {activeBreaker, []string{
			"using credential_uses_pkey on credential_uses u: ((instance = p.instance) AND (provider_id = p.id) AND (version = p.credential_version))",
		}},
		"settle": {settleMails, []string{
			byMessageKey, byPlace,
			"using providers_pkey on providers p: ((instance = h.instance) AND (id = h.provider_id))",
			"using message_contents_pkey on message_contents c: ((instance = d.instance) AND (id = d.id))",
			"Tid Scan on message_contents c: (ctid = ",
		}},
		"a provider":        {findOne, []string{"using providers_pkey on providers: ((instance = $1) AND (id = $2))"}},
		"providers":         {findByID, []string{"using providers_pkey on providers: ((instance = k.owner) AND (id = k.named))"}},
		"active providers":  {findActive, []string{"using providers_active on providers: (instance = k.owner)"}},
		"tokens":            {findByHash, []string{"on tokens: (hash = ANY ($1))"}},
		"apply: passwords":  {applyChanges{updates: true}.text().query, byChange},
		"apply: previous":   {applyChanges{updates: true, previous: true}.text().query, byChange},
		"apply: everything": {applyChanges{additions: true, removals: true, updates: true, settings: true, previous: true}.text().query, byChange},
		"changes": {selectChanged, []string{
			"messages_changed", // by an index scan or a bitmap of it
		}},
		"settle: one":          {updateFinished, []string{"using messages_pkey on messages: ((instance = $1) AND (id = $2))"}},
		"settle: put back one": {updatePutBack, []string{"using messages_pkey on messages: ((instance = $1) AND (id = $2))"}},
		"erase":                {eraseMails.one, []string{"using message_contents_pkey on message_contents: ((instance = $1) AND (id = $2))"}},
		"extend":               {updateLease, []string{"using messages_pkey on messages: ((instance = $2) AND (id = $3))"}},
		"expire":               {forPostgres(selectExpired), []string{"using messages_expiring on messages m: ((instance = $1) AND (expires <= $2))"}},
		"waiting":              {selectWaiting, []string{"using messages_due on messages: ((instance = i.id) AND (due IS NOT NULL))"}},
	} {
		plan := explainPostgres(t, db, c.query)
		for _, want := range c.want {
			if !slices.ContainsFunc(plan, func(step string) bool { return strings.Contains(step, want) }) {
				t.Errorf("%s does not go %q but\n%s", name, want, strings.Join(plan, "\n"))
			}
		}
		for _, step := range plan {
			if throughTable(step) {
				t.Errorf("%s goes through a table (%s):\n%s", name, step, strings.Join(plan, "\n"))
			}
		}
	}
	// What SQLite does well: here every content of the instance would be looked at for each mail.
	if plan := explainPostgres(t, db, selectDue); !slices.ContainsFunc(plan, throughTable) {
		t.Errorf("a plan that goes through a table is not noticed:\n%s", strings.Join(plan, "\n"))
	}
}

func throughTable(step string) bool {
	return strings.Contains(step, "Seq Scan") || strings.Contains(step, "Join Filter")
}

// numbered is what sets a name apart that is used again.
var numbered = regexp.MustCompile(`_\d+\b`)

var plans atomic.Int64 // that were asked for

// explainPostgres returns the steps of the plan that processes keep, those that have one with its condition.
func explainPostgres(t *testing.T, db *DB, query string) (steps []string) {
	t.Helper()
	conn, err := db.reader.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	args := len(slices.Compact(slices.Sorted(slices.Values(placeholder.FindAllString(query, -1)))))
	name := fmt.Sprint("plan", plans.Add(1))
	execute := "EXPLAIN (COSTS OFF) EXECUTE " + name
	if args > 0 {
		execute += "(NULL" + strings.Repeat(", NULL", args-1) + ")"
	}
	if _, err := conn.ExecContext(t.Context(), "PREPARE "+name+" AS "+query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	rows, err := conn.QueryContext(t.Context(), execute)
	lines, err := collect(rows, err, func() (line string, err error) { return line, rows.Scan(&line) })
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		line = strings.TrimSpace(numbered.ReplaceAllString(line, ""))
		if _, condition, ok := strings.Cut(line, "Cond: "); ok && len(steps) > 0 {
			steps[len(steps)-1] = fmt.Sprintf("%s: %s", steps[len(steps)-1], condition)
			continue
		}
		steps = append(steps, line)
	}
	return steps
}
