package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/outbox"
	"github.com/mailkeep/mailkeep/internal/sqlstore"
)

// check holds the ledger against a data folder that no service uses. What may have been made is
// promised from now on if it was, and never comes if it was not.
func (l *ledger) check(ctx context.Context, dir string) error {
	db, err := sqlstore.OpenSQLite(ctx, filepath.Join(dir, "mailkeep.db"), sqlstore.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	lost, err := l.checkProviders(ctx, db)
	if err != nil {
		return err
	}
	tokens, err := db.Tokens(ctx, instance.Default)
	if err != nil {
		return err
	}
	here := map[string]bool{}
	for _, t := range tokens {
		here[t.ID] = true
	}
	lost += l.checkTokens(here)
	mails, err := db.Messages(ctx, instance.Default, outbox.Filter{Limit: 1 << 30})
	if err != nil {
		return err
	}
	missing := maps.Clone(l.mails)
	for _, m := range mails {
		delete(missing, m.ID)
	}
	l.lost = max(l.lost, lost+len(missing))
	return l.checkKeys(dir)
}

// checkProviders wants the events to be those that were acknowledged, and others only for calls that
// were not answered; and the providers to be what the events make them.
func (l *ledger) checkProviders(ctx context.Context, db *sqlstore.DB) (lost int, err error) {
	page, err := db.List(ctx, instance.Default, emailprovider.Query{Limit: 1 << 20})
	if err != nil {
		return 0, err
	}
	events, err := db.Events(ctx, instance.Default, "", 0, 1<<30)
	if err != nil {
		return 0, err
	}
	if page.Sequence != uint64(len(events)) {
		l.complain("%d events, and the last sequence is %d", len(events), page.Sequence)
	}
	l.here = map[string]emailprovider.Provider{}
	for _, p := range page.Providers {
		l.here[p.ID] = p
	}
	made := map[uint64]bool{}
	for i, e := range events {
		made[e.Sequence] = true
		if e.Sequence != uint64(i+1) {
			l.complain("event %d has sequence %d", i+1, e.Sequence)
		}
		is := func(c change) bool { return c.kind == e.Type && c.provider == e.ProviderID }
		if c, ok := l.changes[e.Sequence]; ok && !is(c) {
			lost++
		} else if !ok && !slices.ContainsFunc(l.switches[e.Sequence], is) {
			l.adopt(e)
		}
	}
	for sequence := range l.changes {
		if !made[sequence] {
			lost++
		}
	}
	for sequence, all := range l.switches {
		if !made[sequence] {
			lost += len(all)
		}
	}
	l.unheard = nil
	lost += l.replay(events)
	l.compare()
	return lost, nil
}

// adopt takes up a change that was made without an answer.
func (l *ledger) adopt(e emailprovider.Event) {
	made := change{kind: e.Type, provider: e.ProviderID}
	first := -1
	for i, c := range l.unheard {
		added := c.kind == emailprovider.EventAdded && slices.Contains(c.values, l.here[e.ProviderID].Description)
		if c.kind != e.Type || c.provider != e.ProviderID && !added {
			continue
		}
		if first < 0 {
			first = i
		}
		made.values = append(made.values, c.values...)
	}
	if first < 0 {
		l.complain("event %d, %s of %s, was asked for by nobody", e.Sequence, e.Type, e.ProviderID)
		return
	}
	l.unheard = slices.Delete(l.unheard, first, first+1)
	l.changes[e.Sequence] = made
	l.landed++
}

// replay finds what the providers must be, and counts the switches that were not made.
func (l *ledger) replay(events []emailprovider.Event) (lost int) {
	l.promised = map[string]*promisedProvider{}
	active := ""
	for _, e := range events {
		c, p := l.changes[e.Sequence], l.promised[e.ProviderID]
		if p == nil {
			p = &promisedProvider{}
			l.promised[e.ProviderID] = p
		}
		p.sequence = e.Sequence
		switch e.Type {
		case emailprovider.EventAdded:
			p.descriptions, p.passwords, p.version = c.values, c.values, 1
		case emailprovider.EventUpdated:
			p.descriptions = c.values
		case emailprovider.EventPasswordChanged:
			p.passwords, p.version = c.values, p.version+1
		case emailprovider.EventActivated:
			if former := l.promised[active]; former != nil {
				former.active, former.sequence = false, e.Sequence
			}
			active, p.active = e.ProviderID, true
		case emailprovider.EventDeactivated:
			active, p.active = "", false
		case emailprovider.EventRemoved:
			delete(l.promised, e.ProviderID)
		}
		for _, c := range l.switches[e.Sequence] {
			p := l.promised[c.provider]
			if p == nil || p.sequence != e.Sequence || p.active != (c.kind == emailprovider.EventActivated) {
				lost++
			}
		}
		if e.CredentialVersion != p.version {
			l.complain("event %d has credential version %d, want %d", e.Sequence, e.CredentialVersion, p.version)
		}
	}
	return lost
}

// compare looks for changes that were made by half.
func (l *ledger) compare() {
	for id, p := range l.here {
		want := l.promised[id]
		if want == nil {
			l.complain("provider %s has no event, or was removed", id)
		} else if p.Sequence != want.sequence || (p.State == emailprovider.Active) != want.active || p.Credential.Version != want.version ||
			!slices.Contains(want.descriptions, p.Description) {
			l.complain("provider %s is %d %v %d %q, and its events say %+v",
				id, p.Sequence, p.State, p.Credential.Version, p.Description, *want)
		}
	}
	for id := range l.promised {
		if _, ok := l.here[id]; !ok {
			l.complain("provider %s is not there and its events don't say why", id)
		}
	}
}

func (l *ledger) checkTokens(here map[string]bool) (lost int) {
	for id, token := range l.tokens {
		if token.unsure {
			token.revoked, token.unsure = !here[id], false
		}
		if here[id] == token.revoked {
			lost++
		}
	}
	return lost
}

// checkKeys wants every key in the keyset, and the newest to be the primary one.
func (l *ledger) checkKeys(dir string) error {
	primary, keys, err := readKeys(dir)
	if err != nil {
		return err
	}
	if l.rotating && !slices.Contains(l.keys, primary) {
		l.keys = append(l.keys, primary)
	}
	l.rotating = false
	if newest := l.keys[len(l.keys)-1]; primary != newest {
		l.complain("key %d is the primary one, want %d", primary, newest)
	}
	for _, key := range l.keys {
		if !slices.Contains(keys, key) {
			l.complain("key %d is lost", key)
		}
	}
	return nil
}

func readKeys(dir string) (primary uint32, all []uint32, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "keyset.json"))
	if err != nil {
		return 0, nil, err
	}
	var keyset struct {
		PrimaryKeyID uint32
		Key          []struct{ KeyID uint32 }
	}
	if err := json.Unmarshal(text, &keyset); err != nil {
		return 0, nil, fmt.Errorf("the keyset is damaged: %w", err)
	}
	for _, key := range keyset.Key {
		all = append(all, key.KeyID)
	}
	return keyset.PrimaryKeyID, all, nil
}
