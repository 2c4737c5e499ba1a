//go:build !race

// Package racetest tells tests whether the race detector slows them down.
package racetest

// Slower is how much the race detector slows things down, at most.
const Slower = 1
