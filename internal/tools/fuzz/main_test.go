package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFindAndRun has a module with a target that holds and one that any input breaks.
func TestFindAndRun(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"go.mod": "module example.com/x\n\ngo 1.26.0\n",
		"x_test.go": "package x\n\nimport \"testing\"\n\nfunc FuzzHolds(f *testing.F) { f.Fuzz(func(*testing.T, []byte) {}) }\n\n" +
			"func FuzzBreaks(f *testing.F) {\n\tf.Fuzz(func(t *testing.T, in []byte) { t.Fatal(in) })\n}\n\n// func FuzzNot(f *testing.F) {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	targets, err := find(nil)
	if err != nil || len(targets) != 2 || targets[0] != (target{"example.com/x", "FuzzHolds"}) || targets[1].name != "FuzzBreaks" {
		t.Fatalf("%v, %v", targets, err)
	}
	if one, err := find([]string{"FuzzBreaks"}); err != nil || len(one) != 1 {
		t.Errorf("%v, %v", one, err)
	}
	if err := compile(targets); err != nil {
		t.Error(err)
	}
	if out, err := targets[0].run(time.Second); err != nil || !strings.Contains(lastProgress(out), "execs: ") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := targets[1].run(time.Second); err == nil || !strings.Contains(string(out), "Failing input") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestOnlyTimeIsUp(t *testing.T) {
	for output, want := range map[string]bool{
		"fuzz: elapsed: 20s, execs: 1\n--- FAIL: FuzzA (20.08s)\n    context deadline exceeded\nFAIL\nexit status 1\n":                                                        true,
		"--- FAIL: FuzzA (1s)\n    --- FAIL: FuzzA (0.00s)\n        a_test.go:1: context deadline exceeded\n    \n    Failing input written to testdata/fuzz/FuzzA/1\nFAIL\n": false,
		"--- FAIL: FuzzA (1s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\n    Failing input written to testdata/fuzz/FuzzA/1\nFAIL\n":                false,
		"# a\n./a.go:1:1: undefined: b\nFAIL\ta [build failed]\n":                                                                                                             false,
	} {
		if got := onlyTimeIsUp([]byte(output)); got != want {
			t.Errorf("%q: %v", output, got)
		}
	}
}
