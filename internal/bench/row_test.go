package main

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestQuartiles(t *testing.T) {
	for _, test := range []struct{ values, want []float64 }{
		{nil, []float64{math.NaN(), math.NaN(), math.NaN()}},
		{[]float64{3}, []float64{3, 3, 3}},
		{[]float64{5, 1, 4, 2, 3}, []float64{2, 3, 4}},
		{[]float64{4, 1, 3, 2}, []float64{1.75, 2.5, 3.25}},
	} {
		lower, median, upper := quartiles(test.values)
		if diff := cmp.Diff(test.want, []float64{lower, median, upper}, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("quartiles of %v (-want +got):\n%s", test.values, diff)
		}
	}
}

func TestVerdict(t *testing.T) {
	values := []float64{1, 2, 3, 4, 5} // quartiles 2 and 4
	for _, test := range []struct {
		target target
		values []float64
		want   verdict
	}{
		{atLeast(2, 9), values, passed},
		{atLeast(2.1, 9), values, undecided},
		{atLeast(4, 9), values, undecided},
		{atLeast(4.1, 9), values, failed},
		{atMost(4, 0), values, passed},
		{atMost(3.9, 0), values, undecided},
		{atMost(2, 0), values, undecided},
		{atMost(1.9, 0), values, failed},
		{target{}, values, information},
		{atLeast(1, 1), nil, failed},
		{atMost(1, 1), nil, failed},
		{atLeast(1, 1), []float64{math.NaN()}, failed},
	} {
		if got := (&row{target: test.target, values: test.values}).verdict(); got != test.want {
			t.Errorf("%v against %+v: %s, want %s", test.values, test.target, got, test.want)
		}
	}
}

func TestFigures(t *testing.T) {
	over, under := sample{value: 6, allocs: 7, heap: 8}, sample{value: 3, heap: 2}
	a, b := &cell{unit: "ms"}, &cell{}
	for _, test := range []struct {
		row     *row
		samples []sample
		want    float64
		unit    string
	}{
		{ratio("", a, b, target{}), []sample{over, under}, 2, ""},
		{heapRatio("", a, b, target{}), []sample{over, under}, 4, ""},
		{absolute("", a, target{}), []sample{over}, 6, "ms"},
		{allocations("", a, target{}), []sample{over}, 7, "allocations"},
	} {
		if got := test.row.figure(test.samples); got != test.want || test.row.unit != test.unit || len(test.row.cells) != len(test.samples) {
			t.Errorf("%v %s of %d cells, want %v %s of %d", got, test.row.unit, len(test.row.cells), test.want, test.unit, len(test.samples))
		}
	}
}
