package app_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
)

// order is what the sequences of changes tell of a history: in which order they were made.
type order struct {
	changes []*porcupine.Operation // by their sequence
}

// checkPool checks a history of a pool. Changes have their place by their sequence, and what is seen of one comes
// after it and before the next: with what that says of when calls can have been, there is little left to search.
// No call is made shorter than it can have been, so that the outcome is the one of the history as it is.
func checkPool(first poolState, history []porcupine.Operation) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	history = slices.Clone(history)
	o := orderOf(history)
	o.tighten()
	for i := range history {
		o.place(&history[i])
	}
	if slices.ContainsFunc(history, func(op porcupine.Operation) bool { return op.Call > op.Return }) {
		return porcupine.Illegal, porcupine.LinearizationInfo{}
	}
	return porcupine.CheckOperationsVerbose(poolModel(first), history, patienceOfModel)
}

// orderOf finds the changes. Where several calls have the same sequence it can't tell which has made it, and
// leaves all of them out.
func orderOf(history []porcupine.Operation) *order {
	bySequence := map[uint64][]*porcupine.Operation{}
	for i := range history {
		op := &history[i]
		switch op.Input.(poolCall).kind {
		case "add", "update", "password", "activate", "deactivate", "remove":
			if a := op.Output.(poolAnswer); !a.missing {
				bySequence[a.sequence] = append(bySequence[a.sequence], op)
			}
		}
	}
	o := new(order)
	for _, ops := range bySequence {
		if len(ops) == 1 {
			o.changes = append(o.changes, ops[0])
		}
	}
	slices.SortFunc(o.changes, func(a, b *porcupine.Operation) int { return cmp.Compare(sequenceOf(a), sequenceOf(b)) })
	return o
}

func sequenceOf(op *porcupine.Operation) uint64 { return op.Output.(poolAnswer).sequence }

// tighten has each change begin no earlier than those before it, and end no later than those after it.
func (o *order) tighten() {
	begun, ended := int64(math.MinInt64), int64(math.MaxInt64)
	for _, c := range o.changes {
		begun = max(begun, c.Call)
		c.Call = begun
	}
	for _, c := range slices.Backward(o.changes) {
		ended = min(ended, c.Return)
		c.Return = ended
	}
}

// place has what shows a change come after it, and before the next that would show.
func (o *order) place(op *porcupine.Operation) {
	c, a := op.Input.(poolCall), op.Output.(poolAnswer)
	switch {
	case a.missing:
	case c.kind == "list":
		o.between(op, func(change *porcupine.Operation) bool { return sequenceOf(change) <= a.list.last },
			func(change *porcupine.Operation) bool { return sequenceOf(change) > a.list.last })
	case c.kind == "get", c.kind == "active":
		provider := c.provider
		if c.kind == "active" {
			provider = a.provider
		}
		o.between(op, func(change *porcupine.Operation) bool { return sequenceOf(change) <= a.sequence },
			func(change *porcupine.Operation) bool {
				return sequenceOf(change) > a.sequence && change.Input.(poolCall).provider == provider
			})
	case c.kind == "mail":
		set := slices.IndexFunc(o.changes, func(change *porcupine.Operation) bool {
			by := change.Input.(poolCall)
			return by.number == a.password && by.provider == a.provider && (by.kind == "add" || by.kind == "password")
		})
		if set < 0 {
			return
		}
		at := sequenceOf(o.changes[set])
		o.between(op, func(change *porcupine.Operation) bool { return sequenceOf(change) <= at },
			func(change *porcupine.Operation) bool {
				by := change.Input.(poolCall)
				return sequenceOf(change) > at && by.provider == a.provider && (by.kind == "password" || by.kind == "remove")
			})
	}
}

// between has an operation come after the last change before it and before the first after it.
func (o *order) between(op *porcupine.Operation, before, after func(*porcupine.Operation) bool) {
	for _, c := range slices.Backward(o.changes) {
		if before(c) {
			op.Call = max(op.Call, c.Call)
			break
		}
	}
	if i := slices.IndexFunc(o.changes, after); i >= 0 {
		op.Return = min(op.Return, o.changes[i].Return)
	}
}

// TestCheckPool has random histories checked with and without what their sequences tell: it changes nothing. Half
// of them are of a pool that sometimes answers with what was before.
func TestCheckPool(t *testing.T) {
	verdicts := map[porcupine.CheckResult]int{}
	for seed := range uint64(3000) {
		history := randomHistory(rand.New(rand.NewPCG(seed, 1)), seed%2 == 1)
		want := porcupine.CheckOperationsTimeout(poolModel(poolState{}), history, 0)
		got, _ := checkPool(poolState{}, history)
		if got != want {
			t.Fatalf("seed %d: %s, want %s\n%+v", seed, got, want, history)
		}
		verdicts[got]++
	}
	if verdicts[porcupine.Ok] < 500 || verdicts[porcupine.Illegal] < 200 {
		t.Errorf("the histories are of one kind: %v", verdicts)
	}
}

// randomHistory is what a pool of three providers answers to calls that overlap.
func randomHistory(r *rand.Rand, stale bool) (history []porcupine.Operation) {
	var now, before poolState
	kinds := []string{"add", "update", "password", "activate", "deactivate", "remove", "get", "get", "active", "mail", "mail", "list", "accepted"}
	for n := 1; n <= 14; n++ {
		c := poolCall{kind: kinds[r.IntN(len(kinds))], provider: r.IntN(3), number: n}
		seen := now
		if stale && r.IntN(2) == 0 {
			seen = before
		}
		p, active := seen.providers[c.provider], seen.active()
		a := poolAnswer{sequence: p.sequence, active: p.active, description: p.description, provider: c.provider, password: p.password}
		switch c.kind {
		case "list":
			a = poolAnswer{list: seen.shown()}
		case "active", "mail", "accepted":
			if a = (poolAnswer{missing: true}); active >= 0 {
				p = seen.providers[active]
				a = poolAnswer{sequence: p.sequence, active: true, description: p.description, provider: active, password: p.password}
			} else if c.kind == "mail" {
				continue
			}
		case "get":
			a.missing = !p.exists
		default:
			p = now.providers[c.provider]
			a = poolAnswer{sequence: p.sequence}
			switch none := c.kind == "activate" && p.active || c.kind == "deactivate" && !p.active; {
			case c.kind == "add" && p.exists:
				continue
			case c.kind != "add" && !p.exists:
				a = poolAnswer{missing: true}
			case !none:
				a.sequence = now.last + 1
				before = now
				_, now = now.change(c, a.sequence)
			}
		}
		at := int64(10 * n)
		op := porcupine.Operation{Input: c, Output: a, Call: at - r.Int64N(12), Return: at + r.Int64N(12)}
		if r.IntN(20) == 0 {
			op.Return = math.MaxInt64
		}
		history = append(history, op)
	}
	return history
}
