package main

import "context"

// row is one line of the result: a figure formed from cells that ran in the same round.
type row struct {
	name   string
	unit   string // "" for a ratio
	cells  []*cell
	figure func(samples []sample) float64 // one sample for each cell, in their order
	target target

	values []float64 // one for each round
	others []float64 // for each round, the most CPU that other programs used during a cell
}

// target is what a figure should reach. The zero target is for information only.
type target struct {
	must, aim float64
	atMost    bool // the figure must not be above it; else, not below
}

func atLeast(must, aim float64) target { return target{must: must, aim: aim} }

func atMost(must, aim float64) target { return target{must: must, aim: aim, atMost: true} }

// fewerThan aims at nothing in particular.
func fewerThan(must float64) target { return atMost(must, 0) }

// cell is one thing that is measured. It may belong to several rows and still runs once a round.
type cell struct {
	name string
	unit string // of what it measures
	// open prepares the cell before the first round; measure is what it returned.
	open    func() (measure, error)
	measure measure

	samples []sample // one for each round that the cell ran in
}

// measure measures a cell once.
type measure func(ctx context.Context) (sample, error)

// sample is what a cell measured in one round.
type sample struct {
	value  float64
	allocs float64 // of the whole process, for each call; 0 if not counted
	heap   float64 // MiB that a process holds after its garbage was collected; 0 if not measured
	others float64 // share of the machine's CPU that other programs used meanwhile, 0 to 1
}

// ratio is a row of the values of two cells.
func ratio(name string, over, under *cell, t target) *row {
	return &row{name: name, cells: []*cell{over, under}, target: t, figure: func(s []sample) float64 {
		return s[0].value / s[1].value
	}}
}

// heapRatio is a row of what two cells hold in memory.
func heapRatio(name string, over, under *cell, t target) *row {
	return &row{name: name, cells: []*cell{over, under}, target: t, figure: func(s []sample) float64 {
		return s[0].heap / s[1].heap
	}}
}

// absolute is a row of one cell's values.
func absolute(name string, of *cell, t target) *row {
	return &row{name: name, unit: of.unit, cells: []*cell{of}, target: t, figure: func(s []sample) float64 {
		return s[0].value
	}}
}

// allocations is a row of what one call of a cell allocates.
func allocations(name string, of *cell, t target) *row {
	return &row{name: name, unit: "allocations", cells: []*cell{of}, target: t, figure: func(s []sample) float64 {
		return s[0].allocs
	}}
}

// verdict is what the rounds so far say of a row.
type verdict string

const (
	passed      verdict = "pass"
	failed      verdict = "**FAIL**"
	undecided   verdict = "undecided"
	information verdict = "information"
)

// verdict judges the row by its quartiles.
func (r *row) verdict() verdict {
	if r.target == (target{}) {
		return information
	}
	worse, _, better := quartiles(r.values)
	if r.target.atMost {
		worse, better = better, worse
	}
	switch {
	case r.target.reached(r.target.must, worse):
		return passed
	case !r.target.reached(r.target.must, better):
		return failed
	}
	return undecided
}

func (t target) reached(goal, value float64) bool {
	if t.atMost {
		return value <= goal
	}
	return value >= goal
}
