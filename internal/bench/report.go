package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"
)

// report writes the result as Markdown, and what there is no PostgreSQL for. It returns an error if a row
// failed.
func report(to io.Writer, f flags, rows []*row, lacks error) error {
	var text strings.Builder
	fmt.Fprintf(&text, "# Mailkeep's benchmark\n\n%s, %s/%s, %d CPUs; %d to %d rounds of %s a cell, closed loop over loopback.\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), f.Rounds, f.MostRounds, f.Length)
	text.WriteString("| row | median | quartiles | must | aim | rounds | others' CPU, median (most) | verdict |\n" +
		"|---|---|---|---|---|---|---|---|\n")
	var missed []string
	for _, r := range rows {
		verdict := r.verdict()
		if verdict == failed {
			missed = append(missed, r.name)
		}
		median, spread := figures(r.values, r.unit)
		must, aim := r.target.texts()
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %d | %s | %s |\n",
			r.name, median, spread, must, aim, len(r.values), shares(r.others), verdict)
	}
	text.WriteString("\n| cell | median | quartiles | allocations a call | others' CPU, median (most) |\n|---|---|---|---|---|\n")
	for _, c := range cellsOf(rows) {
		values, allocs, others := c.columns()
		median, spread := figures(values, c.unit)
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s |\n", c.name, median, spread, allocs, shares(others))
	}
	text.WriteString("\nAllocations are those of the whole service for one call or mail, net/http's reading of the request included.\n")
	if lacks != nil {
		fmt.Fprintf(&text, "\n**The rows of PostgreSQL were not measured: %v.**\n", lacks)
	}
	if _, err := io.WriteString(to, text.String()); err != nil {
		return err
	}
	if missed != nil {
		return fmt.Errorf("missed: %s", strings.Join(missed, "; "))
	}
	return nil
}

// figures returns a median and quartiles with their unit.
func figures(values []float64, unit string) (median, spread string) {
	lower, middle, upper := quartiles(values)
	return strings.TrimSpace(number(middle) + " " + unit), number(lower) + " – " + number(upper)
}

// number prints three significant digits or all before the point.
func number(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// texts returns the target as the table shows it.
func (t target) texts() (must, aim string) {
	switch {
	case t == (target{}):
		return "–", "–"
	case t.atMost && t.aim == 0:
		return "≤ " + number(t.must), "fewer"
	case t.atMost:
		return "≤ " + number(t.must), "≤ " + number(t.aim)
	}
	return "≥ " + number(t.must), "≥ " + number(t.aim)
}

// shares returns the median and the highest of shares of CPU.
func shares(values []float64) string {
	_, median, _ := quartiles(values)
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	return fmt.Sprintf("%.0f %% (%.0f %%)", 100*median, 100*most)
}

// columns returns the samples of a cell column by column.
func (c *cell) columns() (values []float64, allocs string, others []float64) {
	var counted []float64
	for _, s := range c.samples {
		values, others = append(values, s.value), append(others, s.others)
		if s.allocs > 0 {
			counted = append(counted, s.allocs)
		}
	}
	if counted == nil {
		return values, "–", others
	}
	_, median, _ := quartiles(counted)
	return values, number(median), others
}
