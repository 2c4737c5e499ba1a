// Command fuzz runs every fuzz target of the module for a time, two at a time, and ends with their count.
// It finds the targets itself, so that none can be forgotten. Names as arguments are the only ones to run.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// atATime is how many targets run side by side, each with one worker.
const atATime = 2

func main() {
	lasts := flag.Duration("time", 20*time.Second, "how long each target runs")
	flag.Parse()
	targets, err := find(flag.Args())
	if err == nil {
		err = compile(targets)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
	passed, failed := runAll(targets, *lasts)
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

// target is a fuzz target of a package.
type target struct{ pkg, name string }

var declared = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(\w+ \*testing\.F\)`)

// find returns the targets of the module in the folder, those with the names if any are given.
func find(names []string) (targets []target, err error) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{.Dir}}{{range .TestGoFiles}} {{.}}{{end}}{{range .XTestGoFiles}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		for _, file := range words[2:] {
			source, err := os.ReadFile(filepath.Join(words[1], file))
			if err != nil {
				return nil, err
			}
			for _, m := range declared.FindAllSubmatch(source, -1) {
				if name := string(m[1]); len(names) == 0 || slices.Contains(names, name) {
					targets = append(targets, target{words[0], name})
				}
			}
		}
	}
	return targets, nil
}

// runAll runs targets and shows what they say, each when it has ended.
func runAll(targets []target, lasts time.Duration) (passed, failed int) {
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		next    = make(chan target)
	)
	for range atATime {
		workers.Go(func() {
			for t := range next {
				out, err := t.run(lasts)
				mu.Lock()
				if err != nil {
					failed++
					fmt.Printf("%s: %v\n%s", t.name, err, out)
				} else {
					passed++
					fmt.Printf("%s: %s\n", t.name, lastProgress(out))
				}
				mu.Unlock()
			}
		})
	}
	for _, t := range targets {
		next <- t
	}
	close(next)
	workers.Wait()
	return passed, failed
}

// compile compiles the packages' tests as fuzzing wants them, one by one: two commands at a time would each
// compile what both need.
func compile(targets []target) error {
	done := map[string]bool{}
	for _, t := range targets {
		if done[t.pkg] {
			continue
		}
		if out, err := exec.Command("go", "test", "-run", "^$", "-fuzz", "^$", t.pkg).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", t.pkg, err, out)
		}
		done[t.pkg] = true
	}
	return nil
}

// run fuzzes the target. An input that fails is written to the package's testdata/fuzz.
func (t target) run(lasts time.Duration) (output []byte, err error) {
	output, err = exec.Command("go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", lasts.String(), "-parallel", "1", t.pkg).CombinedOutput()
	if err != nil && onlyTimeIsUp(output) {
		err = nil
	}
	return output, err
}

// onlyTimeIsUp reports whether a failure is none of the target's: Go calls it one when an input was still being
// tried at the end of the time, and says no more of it than this.
func onlyTimeIsUp(output []byte) bool {
	return bytes.Contains(output, []byte("\n    context deadline exceeded\n")) && !bytes.Contains(output, []byte("Failing input")) &&
		!bytes.Contains(output, []byte("panic:")) && bytes.Count(output, []byte("--- FAIL")) == 1
}

// lastProgress returns the last line that says how far fuzzing has come.
func lastProgress(out []byte) string {
	last := "no input"
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "fuzz: ") && strings.Contains(line, "execs: ") {
			last = strings.TrimSpace(strings.TrimPrefix(line, "fuzz: "))
		}
	}
	return last
}
