package sqlstore

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/outbox"
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
		"count of SMTP":    {countSMTP, "providers_listed (instance=? AND created>?)"},
		"List":             {listAll + newestFirst, "providers_listed (instance=? AND created>?)"},
		"List ascending":   {listAll + oldestFirst, "providers_listed (instance=? AND created>?)"},
		"List of SMTP":     {listSMTP + newestFirst, "providers_listed (instance=? AND created>?)"},
		"Events":           {eventsOfAll, "sqlite_autoindex_events_1 (instance=? AND sequence>?)"},
		"Events of one":    {eventsSorted, "PRIMARY KEY (instance=? AND provider_id=? AND sequence>?)"},
		"of one: the rest": {eventsUnsorted, "sqlite_autoindex_events_1 (instance=? AND sequence>?)"},
		"sort":             {insertSorted, "sqlite_autoindex_events_1 (instance=? AND sequence>? AND sequence<?)"},
		"KeysInUse":        {selectKeysInUse, "providers_sealed"},
		"SealedBy":         {selectSealedBy, "providers_sealed (key_id=? AND (instance,id)>(?,?))"},
		"Reseal":           {updateSealed, "(instance=? AND id=?)"},
		"DestroyPrevious":  {takeEnds, "previous_ends_until (until<?)"},
		"Destroy one":      {destroyPrevious, "sqlite_autoindex_providers_1 (instance=? AND id=?)"},
		"TokenByHash":      {selectTokenByHash, "sqlite_autoindex_tokens_"},
		"Tokens":           {selectTokens, "sqlite_autoindex_tokens_"},
		"Token":            {selectToken, "(instance=? AND id=?)"},
		"Put":              {selectOther, "(instance=? AND id=?)"},
		"Revoke":           {deleteToken, "(instance=? AND id=?)"},
		"sequence":         {updateEnd, "sqlite_autoindex_instances_1 (id=?)"},
		"former active":    {updateFormerActive, "providers_active (instance=?)"},
		"update":           {updateProvider, "(instance=? AND id=?)"},
		"credential":       {updateCredential, "(instance=? AND id=?)"},
		"remove":           {deleteProvider, "(instance=? AND id=?)"},
		"deprecated uses":  {selectUses, "(instance=?)"},
		"an unindexed one": {"SELECT * FROM providers WHERE host = $1", ""},

		"accepted before":      {selectMessageByKey, "messages_idempotency (instance=? AND idempotency_key=?)"},
		"Message":              {selectMessage, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"CountOpen":            {countOpenOfOne, "messages_open (instance=?)"},
		"Content":              {selectContent, "sqlite_autoindex_message_contents_1 (instance=? AND id=?)"},
		"Attempts":             {selectAttempts, "sqlite_autoindex_attempts_1 (instance=? AND id=?)"},
		"Attempts, the last":   {selectAttempts, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"claim":                {selectDue, "messages_due (instance=? AND due<?)"},
		"claim: contents":      {selectDue, "sqlite_autoindex_message_contents_1 (instance=? AND id=?)"},
		"claim: change":        {updateClaimed + ids(4, many), "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"breaker":              {selectBreaker, "sqlite_autoindex_credential_uses_1 (instance=? AND provider_id=? AND version=?)"},
		"probe":                {updateProbe, "sqlite_autoindex_credential_uses_1 (instance=? AND provider_id=? AND version=?)"},
		"Extend":               {updateLease, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"Waiting":              {selectWaiting, "messages_due (instance=?)"},
		"Settle: finish":       {updateFinished, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"Settle: put back":     {updatePutBack, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"Settle: erase":        {deleteContents + ids(2, many), "sqlite_autoindex_message_contents_1 (instance=? AND id=?)"},
		"Settle: version":      {selectVersion, "sqlite_autoindex_providers_1 (instance=? AND id=?)"},
		"Uses":                 {selectCredentialUses, "sqlite_autoindex_credential_uses_1 (instance=? AND provider_id=?)"},
		"Expire":               {selectExpired, "messages_expiring (instance=? AND expires<?)"},
		"Expire: change":       {updateExpired + ids(3, many), "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"Cancel":               {updateCancelled, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"Requeue":              {updateDue, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"Requeue: content":     {selectHasContent, "sqlite_autoindex_message_contents_1 (instance=? AND id=?)"},
		"Requeue: last":        {insertLast, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"Requeue: revive":      {updateRevived, "sqlite_autoindex_messages_1 (instance=? AND id=?)"},
		"Messages":             {searchQuery(0, outbox.Filter{}), "sqlite_autoindex_messages_1 (instance=? AND id>? AND id<?)"},
		"Messages delivered":   {searchQuery(0, outbox.Filter{States: []outbox.State{outbox.Delivered}}), "sqlite_autoindex_messages_1 (instance=? AND id>? AND id<?)"},
		"Messages open":        {searchQuery(0, outbox.Filter{States: []outbox.State{outbox.Queued}}), "messages_open (instance=? AND id>? AND id<?)"},
		"Messages failed":      {searchQuery(0, outbox.Filter{States: []outbox.State{outbox.Failed}}), "messages_unhappy (instance=? AND id>? AND id<?)"},
		"Messages with a tag":  {searchQuery(0, outbox.Filter{Tag: "t"}), "messages_tagged (instance=? AND tag=? AND id>? AND id<?)"},
		"Messages to":          {searchQuery(0, outbox.Filter{Recipient: "r"}), "messages_to (instance=? AND recipient=? AND id>? AND id<?)"},
		"Messages to, further": {searchQuery(1, outbox.Filter{Recipient: "r"}), "sqlite_autoindex_message_recipients_1 (instance=? AND address=? AND id>? AND id<?)"},
	} {
		plan := explain(t, db, c.query)
		// used is our own recursive table, with one row a key.
		scans := slices.ContainsFunc(plan, func(step string) bool {
			return strings.HasPrefix(step, "SCAN") && step != "SCAN used" && step != "SCAN CONSTANT ROW" &&
				step != "SCAN i USING COVERING INDEX sqlite_autoindex_instances_1" // of Waiting: all instances
		})
		if wantScan := c.index == ""; scans != wantScan || !strings.Contains(strings.Join(plan, "\n"), c.index) {
			t.Errorf("%s: want a search in %s, have\n%s", name, c.index, strings.Join(plan, "\n"))
		}
		sorted := strings.Contains(strings.Join(plan, "\n"), "USE TEMP B-TREE FOR ORDER BY")
		if mayComeSorted := c.query != selectUses && c.query != selectTokens && c.query != selectKeysInUse && c.query != insertSorted; sorted && mayComeSorted {
			t.Errorf("%s sorts what the index has in order:\n%s", name, strings.Join(plan, "\n"))
		}
	}
}

// searchQuery returns the i-th query for mails that match f.
func searchQuery(i int, f outbox.Filter) string {
	query, _ := searches("default", f)[i].limited(100)
	return query
}

var placeholder = regexp.MustCompile(`\$\d+`)

func explain(t *testing.T, db *DB, query string) (steps []string) {
	t.Helper()
	args := make([]any, len(slices.Compact(slices.Sorted(slices.Values(placeholder.FindAllString(query, -1))))))
	rows, err := lite(db).writer.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	steps, err = collect(rows, err, func() (step string, err error) {
		var id, parent, unused int
		return step, rows.Scan(&id, &parent, &unused, &step)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return steps
}
