package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

// mostProviders is how many a pool of the model may have had.
const mostProviders = 24

// poolState is an instance's pool of providers as the model knows it.
type poolState struct {
	last      uint64 // sequence
	providers [mostProviders]providerState
}

// providerState is one of them. Description and password are the calls that have set them.
type providerState struct {
	exists, active        bool
	sequence              uint64
	description, password int
}

// poolCall is a call, or a mail that has come to the mail server.
type poolCall struct {
	kind     string
	provider int // which one it is about, from 0; of "active" and "mail" that is part of the answer
	number   int // of the call
}

// poolAnswer is what came of it.
type poolAnswer struct {
	missing     bool // there is no such provider, or none that is active
	sequence    uint64
	provider    int
	active      bool
	description int
	password    int
	list        poolState
}

// poolModel is what a pool of providers is. Each change counts on from the one before.
func poolModel(first poolState) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(state, input, output any) (bool, any) {
			ok, next := state.(poolState).step(input.(poolCall), output.(poolAnswer))
			return ok, next
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
	}
}

func (s poolState) step(c poolCall, a poolAnswer) (bool, poolState) {
	switch c.kind {
	case "list":
		return a.list == s.shown(), s
	case "active":
		i := s.active()
		return a.missing == (i < 0) && (i < 0 || i == a.provider && s.providers[i].shows(a)), s
	case "accepted":
		return a.missing == (s.active() < 0), s
	case "mail":
		p := s.providers[a.provider]
		return p.exists && p.active && p.password == a.password, s
	}
	p := s.providers[c.provider]
	switch {
	case c.kind != "add" && a.missing == p.exists:
		return false, s
	case a.missing:
		return true, s
	case c.kind == "get":
		return p.shows(a), s
	case c.kind == "activate" && p.active, c.kind == "deactivate" && !p.active:
		return a.sequence == p.sequence, s
	}
	return s.change(c, a.sequence)
}

// change makes the next change.
func (s poolState) change(c poolCall, sequence uint64) (bool, poolState) {
	if sequence != s.last+1 {
		return false, s
	}
	s.last = sequence
	p := &s.providers[c.provider]
	p.sequence = sequence
	switch c.kind {
	case "add":
		if p.exists {
			return false, s
		}
		*p = providerState{exists: true, sequence: sequence, description: c.number, password: c.number}
	case "update":
		p.description = c.number
	case "password":
		p.password = c.number
	case "activate":
		if former := s.active(); former >= 0 {
			s.providers[former].active, s.providers[former].sequence = false, sequence
		}
		p.active = true
	case "deactivate":
		p.active = false
	case "remove":
		*p = providerState{}
	}
	return true, s
}

// active is which provider is, or -1.
func (s poolState) active() int {
	return slices.IndexFunc(s.providers[:], func(p providerState) bool { return p.active })
}

// shows reports whether an answer shows the provider as it is.
func (p providerState) shows(a poolAnswer) bool {
	return a.sequence == p.sequence && a.active == p.active && a.description == p.description
}

// shown is the pool without its secrets.
func (s poolState) shown() poolState {
	for i := range s.providers {
		s.providers[i].password = 0
	}
	return s
}

// TestPoolModel holds the model to histories of which it is known what to think of them. Each line is a call
// with when it began and ended; a change has its sequence, what is read a description or password.
func TestPoolModel(t *testing.T) {
	const begin = `
		add 0 1 seq=1 n=1
		activate 2 3 seq=2
	`
	for name, c := range map[string]struct {
		history string
		want    porcupine.CheckResult
	}{
		"in order":                               {"password 4 5 seq=3 n=7; mail 6 7 pw=7; get 8 9 seq=3 active desc=1", porcupine.Ok},
		"a stale mail":                           {"password 4 5 seq=3 n=7; mail 6 7 pw=1", porcupine.Illegal},
		"a mail beside a change":                 {"password 4 9 seq=3 n=7; mail 6 7 pw=1; mail 7 8 pw=7", porcupine.Ok},
		"back and forth":                         {"password 4 9 seq=3 n=7; mail 5 6 pw=7; mail 7 8 pw=1", porcupine.Illegal},
		"a stale read":                           {"update 4 5 seq=3 n=7; get 6 7 seq=2 active desc=1", porcupine.Illegal},
		"a lost update":                          {"update 4 5 seq=3 n=7; password 6 7 seq=4 n=8; get 8 9 seq=4 active desc=1", porcupine.Illegal},
		"a gap":                                  {"update 4 5 seq=4 n=7", porcupine.Illegal},
		"a change twice":                         {"update 4 5 seq=3 n=7; update 6 7 seq=3 n=8", porcupine.Illegal},
		"changes in the other order":             {"update 4 5 seq=4 n=7; update 6 7 seq=3 n=8", porcupine.Illegal},
		"an outcome unknown for long":            {"password 4 99 seq=3 n=7; mail 6 7 pw=1; mail 20 21 pw=7", porcupine.Ok},
		"a mail through a deactivated provider":  {"deactivate 4 5 seq=3; mail 6 7 pw=1", porcupine.Illegal},
		"a mail through a removed provider":      {"remove 4 5 seq=3; mail 6 7 pw=1", porcupine.Illegal},
		"a removed provider that is still there": {"remove 4 5 seq=3; get 6 7 seq=2 active desc=1", porcupine.Illegal},
		"activated once more":                    {"activate 4 5 seq=2; activate 6 7 seq=2", porcupine.Ok},
		"nothing to deactivate":                  {"deactivate 4 5 seq=3; deactivate 6 7 seq=3; accepted 8 9 missing", porcupine.Ok},
		"accepted without an active provider":    {"deactivate 4 5 seq=3; accepted 6 7", porcupine.Illegal},
		"refused with one":                       {"accepted 6 7 missing", porcupine.Illegal},
		"no such provider":                       {"remove 4 5 seq=3; update 6 7 missing; get 8 9 missing; active 10 11 missing", porcupine.Ok},
		"missing while it is there":              {"get 6 7 missing", porcupine.Illegal},
	} {
		var history []porcupine.Operation
		for _, line := range strings.FieldsFunc(begin+c.history, func(r rune) bool { return r == '\n' || r == ';' }) {
			if op, ok := parseOperation(t, line); ok {
				history = append(history, op)
			}
		}
		if got := porcupine.CheckOperationsTimeout(poolModel(poolState{}), history, 0); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got, _ := checkPool(poolState{}, history); got != c.want {
			t.Errorf("%s, by the sequences: %s, want %s", name, got, c.want)
		}
	}
}

func parseOperation(t *testing.T, line string) (op porcupine.Operation, ok bool) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return op, false
	}
	var c poolCall
	var a poolAnswer
	c.kind = words[0]
	scan := func(word string, to any) {
		if _, err := fmt.Sscan(word, to); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	scan(words[1], &op.Call)
	scan(words[2], &op.Return)
	for _, word := range words[3:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "seq":
			scan(value, &a.sequence)
		case "n":
			scan(value, &c.number)
		case "pw":
			scan(value, &a.password)
		case "desc":
			scan(value, &a.description)
		case "active":
			a.active = true
		case "missing":
			a.missing = true
		default:
			t.Fatal(line)
		}
	}
	op.Input, op.Output = c, a
	return op, true
}
