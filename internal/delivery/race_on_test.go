//go:build race

package delivery

// slower is how much the race detector slows things down, at most.
const slower = 20
