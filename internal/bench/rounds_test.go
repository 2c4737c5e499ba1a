package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// trial is rounds of cells that take no time.
type trial struct {
	rounds
	order []string // names of the cells, in the order they ran
	busy  float64  // what others use
}

func newTrial(least, most int) *trial {
	t := &trial{}
	t.rounds = rounds{least: least, most: most, progress: func(string) {}, others: func() (func() (float64, error), error) {
		return func() (float64, error) { return t.busy, nil }, nil
	}}
	return t
}

// cell measures one value after another, the last for ever.
func (t *trial) cell(name string, values ...float64) *cell {
	return &cell{name: name, open: func() (measure, error) {
		return func(context.Context) (sample, error) {
			t.order = append(t.order, name)
			value := values[0]
			values = values[min(1, len(values)-1):]
			t.busy = value / 100
			return sample{value: value}, nil
		}, nil
	}}
}

func TestRoundsShareCells(t *testing.T) {
	trial := newTrial(2, 9)
	a, b, c := trial.cell("a", 1, 9), trial.cell("b", 2, 3), trial.cell("c", 4)
	first, second := ratio("first", a, b, target{}), ratio("second", c, b, target{})
	if err := trial.run(t.Context(), []*row{first, second}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]float64{{0.5, 3}, {2, 4. / 3}}, [][]float64{first.values, second.values}); diff != "" {
		t.Errorf("ratios within their rounds (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{0.02, 0.09}, first.others); diff != "" {
		t.Errorf("most CPU of others in a round (-want +got):\n%s", diff)
	}
	for round := range 2 {
		ran := strings.Join(trial.order[3*round:3*round+3], "")
		if !strings.Contains("abc acb bac bca cab cba", ran) || len(trial.order) != 6 {
			t.Errorf("round %d ran %s, want each of a, b, c once (all rounds: %v)", round, ran, trial.order)
		}
	}
}

func TestRoundsAreInRandomOrder(t *testing.T) {
	trial := newTrial(100, 100)
	if err := trial.run(t.Context(), []*row{ratio("", trial.cell("a", 1), trial.cell("b", 1), target{})}); err != nil {
		t.Fatal(err)
	}
	first := map[string]int{}
	for i := 0; i < len(trial.order); i += 2 {
		first[trial.order[i]]++
	}
	if first["a"] < 10 || first["b"] < 10 { // by chance once in 10^17 runs
		t.Errorf("of 100 rounds %v began with each cell", first)
	}
}

func TestRoundsUntilDecided(t *testing.T) {
	trial := newTrial(5, 12)
	sure := absolute("sure", trial.cell("sure", 2), atLeast(1, 1))
	bad := absolute("bad", trial.cell("bad", 0), atLeast(1, 1))
	late := absolute("late", trial.cell("late", 0, 0, 2), atLeast(2, 2)) // the lower quartile is 2 after 9
	never := absolute("never", alternating(trial), atMost(1, 1))
	told := absolute("told", trial.cell("told", 2), target{})
	if err := trial.run(t.Context(), []*row{sure, bad, late, never, told}); err != nil {
		t.Fatal(err)
	}
	type result struct {
		Rounds  int
		Verdict verdict
	}
	got := map[string]result{}
	for _, r := range []*row{sure, bad, late, never, told} {
		got[r.name] = result{len(r.values), r.verdict()}
	}
	want := map[string]result{
		"sure": {5, passed}, "bad": {5, failed}, "late": {9, passed}, "never": {12, undecided}, "told": {5, information},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// alternating is a cell whose values are half above and half below 1.
func alternating(t *trial) *cell {
	value := 0.0
	c := t.cell("alternating", 0)
	c.open = func() (measure, error) {
		return func(context.Context) (sample, error) { value = 2 - value; return sample{value: value}, nil }, nil
	}
	return c
}

func TestRoundsNameWhatFailed(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]*cell{
		"open": {name: "the cell", open: func() (measure, error) { return nil, broken }},
		"measure": {name: "the cell", open: func() (measure, error) {
			return func(context.Context) (sample, error) { return sample{}, broken }, nil
		}},
	} {
		err := newTrial(5, 5).run(t.Context(), []*row{absolute("", c, target{})})
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "the cell") {
			t.Errorf("%s: %v, want the cause and the name of the cell", name, err)
		}
	}
}
