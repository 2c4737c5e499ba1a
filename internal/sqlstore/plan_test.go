package sqlstore

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPlans asks SQLite how it would run each query, on statistics it does not have: with few rows
// it can't come to like a scan that many would make a disaster.
func TestPlans(t *testing.T) {
	db := open(t)
	for name, c := range map[string]struct {
		query string
		index string
	}{
		"Provider":         {selectProvider, "sqlite_autoindex_providers_1 (instance=? AND id=?)"},
		"Active":           {selectActive, "providers_active (instance=?)"},
		"count":            {countAll, "providers_"},
		"count of SMTP":    {countSMTP, "providers_listed (instance=?)"},
		"List":             {listAll + newestFirst, "providers_listed (instance=?)"},
		"List ascending":   {listAll + oldestFirst, "providers_listed (instance=?)"},
		"List of SMTP":     {listSMTP + newestFirst, "providers_listed (instance=?)"},
		"Events":           {eventsOfAll, "sqlite_autoindex_events_1 (instance=? AND sequence>?)"},
		"Events of one":    {eventsOfOne, "events_of_provider (instance=? AND provider_id=? AND sequence>?)"},
		"KeysInUse":        {selectKeysInUse, "providers_sealed"},
		"SealedBy":         {selectSealedBy, "providers_sealed (key_id=? AND (instance,id)>(?,?))"},
		"Reseal":           {updateSealed, "(instance=? AND id=?)"},
		"TokenByHash":      {selectTokenByHash, "sqlite_autoindex_tokens_"},
		"Tokens":           {selectTokens, "sqlite_autoindex_tokens_"},
		"Revoke":           {deleteToken, "(instance=? AND id=?)"},
		"sequence":         {updateSequence, "sqlite_autoindex_instances_1 (id=?)"},
		"former active":    {updateFormerActive, "providers_active (instance=?)"},
		"update":           {updateProvider, "(instance=? AND id=?)"},
		"remove":           {deleteProvider, "(instance=? AND id=?)"},
		"deprecated uses":  {selectUses, "(instance=?)"},
		"an unindexed one": {"SELECT * FROM providers WHERE host = $1", ""},
	} {
		plan := explain(t, db, c.query)
		// used is our own recursive table, with one row a key.
		scans := slices.ContainsFunc(plan, func(step string) bool {
			return strings.HasPrefix(step, "SCAN") && step != "SCAN used" && step != "SCAN CONSTANT ROW"
		})
		if wantScan := c.index == ""; scans != wantScan || !strings.Contains(strings.Join(plan, "\n"), c.index) {
			t.Errorf("%s: want a search in %s, have\n%s", name, c.index, strings.Join(plan, "\n"))
		}
		sorted := strings.Contains(strings.Join(plan, "\n"), "USE TEMP B-TREE FOR ORDER BY")
		if mayComeSorted := c.query != selectUses && c.query != selectTokens && c.query != selectKeysInUse; sorted && mayComeSorted {
			t.Errorf("%s sorts what the index has in order:\n%s", name, strings.Join(plan, "\n"))
		}
	}
}

var placeholder = regexp.MustCompile(`\$\d+`)

func explain(t *testing.T, db *DB, query string) (steps []string) {
	t.Helper()
	args := make([]any, len(slices.Compact(slices.Sorted(slices.Values(placeholder.FindAllString(query, -1))))))
	rows, err := db.writer.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	steps, err = collect(rows, err, func() (step string, err error) {
		var id, parent, unused int
		return step, rows.Scan(&id, &parent, &unused, &step)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return steps
}
