package app_test

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// ledger is what callers were promised, to be held against what is there.
type ledger struct {
	turn sync.Mutex // to rotate keys

	mu       sync.Mutex
	changes  map[uint64]change   // acknowledged, by sequence
	switches map[uint64][]change // acknowledged activations and deactivations, which may have changed nothing
	unheard  []change            // that may have been made
	tokens   map[string]*promisedToken
	mails    map[string]bool // acknowledged, by id
	keys     []uint32        // primary ones, in their order
	rotating bool            // a rotation may have been made
	promised map[string]*promisedProvider
	here     map[string]emailprovider.Provider // at the last check

	deaf                 bool           // acknowledgements don't count
	calls, landed, lost  int            // acknowledged, made without an answer, acknowledged and not there
	exhausted, unwritten int            // calls that the store has refused
	slowest              time.Duration  // of all calls
	refusals             map[string]int // by what was said
	wrong                []string
}

func newLedger() *ledger {
	return &ledger{
		changes: map[uint64]change{}, switches: map[uint64][]change{}, tokens: map[string]*promisedToken{},
		mails: map[string]bool{}, refusals: map[string]int{},
	}
}

// change is one of a provider.
type change struct {
	kind     emailprovider.EventType
	provider string   // unknown if an added one was not answered
	values   []string // description or password that it sets: any of them, if it was not answered
}

type promisedToken struct {
	name            string
	secret          string
	revoked, unsure bool // unsure if that was not answered
}

// promisedProvider is what a provider must be after the changes that were made.
type promisedProvider struct {
	descriptions, passwords []string // one of them
	active                  bool
	sequence, version       uint64
}

func (l *ledger) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// refused counts the calls that the store has refused.
func (l *ledger) refused() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exhausted + l.unwritten
}

// acknowledged counts what was promised.
func (l *ledger) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

// close has acknowledgements count no more: what they say may have been made or not.
func (l *ledger) close(closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = closed
}

func (l *ledger) closed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deaf
}

// record writes down what came of a change.
func (l *ledger) record(answer told, result outcome, c change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sequence := answer.Details.Sequence
	switch {
	case result == unknown:
		l.unheard = append(l.unheard, c)
	case result == notMade:
	case c.kind == emailprovider.EventActivated || c.kind == emailprovider.EventDeactivated:
		l.calls++
		l.switches[sequence] = append(l.switches[sequence], c)
	default:
		l.calls++
		l.changes[sequence] = c
	}
}

// owned returns the providers and tokens that a caller has made and that are there.
func (l *ledger) owned(name string) (providers, tokens []string) {
	for id, p := range l.here {
		if strings.HasPrefix(p.Description, name+" ") {
			providers = append(providers, id)
		}
	}
	for id, t := range l.tokens {
		if strings.HasPrefix(t.name, name+" ") && !t.revoked {
			tokens = append(tokens, id)
		}
	}
	return providers, tokens
}
