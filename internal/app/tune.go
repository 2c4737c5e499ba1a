package app

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage there may be before it is collected, in percent of what is alive: a few MiB, so
// that Go's own 100 would collect dozens of times a second under load.
const gcPercent = 400

// Tune sets what a process that serves has otherwise than Go's defaults. GOGC in the environment wins.
func Tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
