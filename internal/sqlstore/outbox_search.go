package sqlstore

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/mailkeep/mailkeep/internal/outbox"
)

// What Messages selects from, all bounded by ids: $1 is the instance, $2 comes before the first id and
// $3 after the last.
const (
	searchAll     = `SELECT` + messageColumns + ` FROM messages AS m WHERE m.instance = $1 AND m.id >= $2 AND m.id < $3`
	searchFirst   = searchAll + ` AND m.recipient = $4 AND m.recipient <> ''`
	searchFurther = `SELECT` + messageColumns + ` FROM message_recipients AS r
		JOIN messages AS m ON m.instance = r.instance AND m.id = r.id
		WHERE r.instance = $1 AND r.id >= $2 AND r.id < $3 AND r.address = $4`

	newestMails        = ` ORDER BY m.id DESC LIMIT `
	newestMailsFurther = ` ORDER BY r.id DESC LIMIT `

	afterAllIDs = "~"
)

// search is one query for mails, newest first.
type search struct {
	query string
	order string
	args  []any
}

// and adds a condition, in which each ? stands for the next value.
func (s search) and(condition string, values ...any) search {
	s.args = slices.Clip(s.args)
	for _, v := range values {
		s.args = append(s.args, v)
		condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(s.args)), 1)
	}
	s.query += " AND " + condition
	return s
}

func (s search) limited(n int) (query string, args []any) {
	return s.query + s.order + "$" + strconv.Itoa(len(s.args)+1), append(slices.Clip(s.args), n)
}

// searches returns the queries whose answers together match f: each goes down one index.
func searches(instance string, f outbox.Filter) []search {
	from, before := "", afterAllIDs
	if !f.From.IsZero() {
		from = outbox.FirstID(f.From)
	}
	if !f.Before.IsZero() {
		before = outbox.FirstID(f.Before)
	}
	if f.After != "" {
		before = min(before, f.After)
	}
	bounds := []any{instance, from, before}
	all := []search{{searchAll, newestMails, bounds}}
	if f.Recipient != "" {
		bounds = append(bounds, searchable(outbox.Recipient{Address: f.Recipient}))
		all = []search{{searchFirst, newestMails, bounds}, {searchFurther, newestMailsFurther, bounds}}
	}
	for i := range all {
		if f.Tag != "" {
			all[i] = all[i].and("m.tag = ? AND m.tag <> ''", f.Tag)
		}
		if f.ProviderID != "" {
			all[i] = all[i].and("m.provider_id = ?", f.ProviderID)
		}
	}
	if len(f.States) > 0 {
		all = inStates(all, f.States)
	}
	return all
}

// inStates narrows each search to the states. Settled well are nearly all mails; the others have
// indexes of their own, open ones and those that went wrong.
func inStates(all []search, states []outbox.State) (narrowed []search) {
	var open, unhappy []any
	for _, state := range states {
		switch {
		case state == outbox.Delivered:
			for _, s := range all {
				narrowed = append(narrowed, s.and("m.state IN ("+marks(len(states))+")", values(states)...))
			}
			return narrowed
		case state.Open():
			open = append(open, string(state))
		default:
			unhappy = append(unhappy, string(state))
		}
	}
	for _, s := range all {
		if len(open) > 0 {
			narrowed = append(narrowed, s.and("m.open AND m.state IN ("+marks(len(open))+")", open...))
		}
		if len(unhappy) > 0 {
			narrowed = append(narrowed, s.and("NOT m.open AND m.state <> 'delivered' AND m.state IN ("+
				marks(len(unhappy))+")", unhappy...))
		}
	}
	return narrowed
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

func values(states []outbox.State) (all []any) {
	for _, s := range states {
		all = append(all, string(s))
	}
	return all
}

// Messages implements outbox.Store.
func (db *DB) Messages(ctx context.Context, instance string, f outbox.Filter) ([]outbox.Message, error) {
	var mails []outbox.Message
	for _, s := range searches(instance, f) {
		query, args := s.limited(f.Limit)
		found, err := all(ctx, db, func(row scanner) (outbox.Message, error) { return scanMessage(row, instance) }, query, args...)
		if err != nil {
			return nil, err
		}
		mails = append(mails, found...)
	}
	slices.SortFunc(mails, func(a, b outbox.Message) int { return cmp.Compare(b.ID, a.ID) })
	mails = slices.CompactFunc(mails, func(a, b outbox.Message) bool { return a.ID == b.ID })
	return mails[:min(f.Limit, len(mails))], nil
}
