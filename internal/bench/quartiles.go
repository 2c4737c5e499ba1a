package main

import (
	"math"
	"slices"
)

// quartiles returns the lower quartile, the median and the upper quartile, between two values by
// linear interpolation. Without values they are NaN, which reaches no target and misses every one.
func quartiles(values []float64) (lower, median, upper float64) {
	sorted := slices.Sorted(slices.Values(values))
	at := func(share float64) float64 {
		if len(sorted) == 0 {
			return math.NaN()
		}
		position := share * float64(len(sorted)-1)
		below := int(position)
		above := min(below+1, len(sorted)-1)
		return sorted[below] + (position-float64(below))*(sorted[above]-sorted[below])
	}
	return at(0.25), at(0.5), at(0.75)
}
