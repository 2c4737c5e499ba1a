// Command testall runs every test there is, one suite after the other, and ends with their count.
// `task test` installs what they need before it. A suite that can't run has failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// suite is a command and how to count what it ran.
type suite struct {
	name    string
	command []string
	count   func(out io.Reader) tally
}

// One package at a time: some fail whole clusters over, and others measure how long something takes.
var suites = []suite{
	{"go test, with the race detector", []string{"go", "test", "-race", "-p=1", "-timeout=30m", "-json", "./..."}, countGo},
	{"the promises at full length", []string{
		"env", "MAILKEEP_PROVE=1", "go", "test", "-count=1", "-json", "-run", "^TestFreshness$", "./internal/app",
	}, countGo},
	{"published clients, browser, README", []string{"go", "test", "-count=1", "-json", "-tags", "e2e", "./internal/e2e/..."}, countGo},
	{"OpenAPI document", []string{"go", "test", "-C", "internal/tools/openapi", "-json", "./..."}, countGo},
	{"Connect conformance", []string{"go", "run", "./internal/conformance"}, countSummary},
	{"fuzzing, 20 s each", []string{"go", "run", "./internal/tools/fuzz", "-time", "20s"}, countSummary},
}

// tally is how many tests passed, failed and were skipped.
type tally struct{ passed, failed, skipped int }

func (t tally) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
}

// orBroken is t, and a failure if the output could not be read to its end.
func (t tally) orBroken(lines *bufio.Scanner, out io.Reader) tally {
	if err := lines.Err(); err != nil {
		fmt.Println("reading the output:", err)
		t.failed++
		_, _ = io.Copy(io.Discard, out) // so that the suite can end
	}
	return t
}

func main() {
	var total tally
	for _, s := range suites {
		t := s.run()
		total.passed, total.failed, total.skipped = total.passed+t.passed, total.failed+t.failed, total.skipped+t.skipped
	}
	fmt.Println(total)
	if total.failed > 0 || total.passed == 0 {
		os.Exit(1)
	}
}

// run runs a suite. A command that fails without a failed test counts as one.
func (s suite) run() tally {
	fmt.Printf("=== %s\n", s.name)
	started := time.Now()
	cmd := exec.Command(s.command[0], s.command[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Println(err)
		return tally{failed: 1}
	}
	t := s.count(out)
	if err := cmd.Wait(); err != nil && t.failed == 0 {
		fmt.Printf("%s: %v\n", strings.Join(s.command, " "), err)
		t.failed = 1
	}
	if t.passed == 0 && t.failed == 0 {
		fmt.Println("no test ran")
		t.failed = 1
	}
	fmt.Printf("--- %s: %s in %s\n", s.name, t, time.Since(started).Round(time.Second))
	return t
}

// event is a line of go test -json (cmd/test2json).
type event struct{ Action, Package, Test, Output string }

// countGo counts tests and subtests, shows the results of packages as they come, and the output of
// tests that fail or are skipped.
func countGo(out io.Reader) (t tally) {
	output := map[string][]string{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		switch {
		case e.Action == "output" && e.Test == "" && !strings.HasPrefix(e.Output, "PASS"), e.Action == "build-output":
			fmt.Print(e.Output)
		case e.Action == "output" && strings.Contains(e.Output, " REL "): // a promise's figures
			fmt.Print(e.Output)
		case e.Action == "output":
			output[key] = append(output[key], e.Output)
		case e.Test == "":
		case e.Action == "pass":
			t.passed++
			delete(output, key)
		case e.Action == "skip":
			t.skipped++
			fmt.Print(strings.Join(output[key], ""))
		case e.Action == "fail":
			t.failed++
			fmt.Print(strings.Join(output[key], ""))
		}
	}
	return t.orBroken(lines, out)
}

var summary = regexp.MustCompile(`^(\d+) passed, (\d+) failed`)

// countSummary shows all that a runner says, and reads the line in which it sums up.
func countSummary(out io.Reader) (t tally) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Println(lines.Text())
		if m := summary.FindStringSubmatch(lines.Text()); m != nil {
			t.passed, _ = strconv.Atoi(m[1])
			t.failed, _ = strconv.Atoi(m[2])
		}
	}
	return t.orBroken(lines, out)
}
