package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
)

// rounds is how rows are measured.
type rounds struct {
	least, most int
	others      func() (func() (float64, error), error) // starts to watch the CPU of other programs
	progress    func(line string)
}

// run measures until every row is decided, or the rounds are used up.
func (r rounds) run(ctx context.Context, rows []*row) error {
	for _, c := range cellsOf(rows) {
		r.progress("preparing: " + c.name)
		measure, err := c.open()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.measure = measure
	}
	for n := 1; n <= r.most; n++ {
		if n > r.least {
			rows = slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return r.verdict() != undecided })
		}
		if len(rows) == 0 {
			return nil
		}
		if err := r.round(ctx, n, rows); err != nil {
			return err
		}
	}
	return nil
}

// round runs each cell of the rows once, and adds one value to each row.
func (r rounds) round(ctx context.Context, n int, rows []*row) error {
	cells := cellsOf(rows)
	rand.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	samples := map[*cell]sample{}
	for i, c := range cells {
		r.progress(fmt.Sprintf("round %d, %d of %d: %s", n, i+1, len(cells), c.name))
		s, err := r.measure(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.samples = append(c.samples, s)
		samples[c] = s
	}
	for _, row := range rows {
		mine := make([]sample, len(row.cells))
		others := 0.0
		for i, c := range row.cells {
			mine[i] = samples[c]
			others = max(others, mine[i].others)
		}
		row.values, row.others = append(row.values, row.figure(mine)), append(row.others, others)
	}
	return nil
}

func (r rounds) measure(ctx context.Context, c *cell) (sample, error) {
	runtime.GC() // no cell pays for the garbage of the one before
	others, err := r.others()
	if err != nil {
		return sample{}, err
	}
	s, err := c.measure(ctx)
	if err != nil {
		return sample{}, err
	}
	s.others, err = others()
	return s, err
}

// cellsOf returns the cells of the rows, each once.
func cellsOf(rows []*row) []*cell {
	var cells []*cell
	for _, r := range rows {
		for _, c := range r.cells {
			if !slices.Contains(cells, c) {
				cells = append(cells, c)
			}
		}
	}
	return cells
}
