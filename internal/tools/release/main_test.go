package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestBuildTwice has a small program: the same twice, and, as the red control, one that has the time of its
// build in it and one that knows where it was built.
func TestBuildTwice(t *testing.T) {
	toolchain, platform := runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
	tree := func(name, at string) build {
		b := build{dir: filepath.Join(t.TempDir(), name), version: "v1", toolchain: toolchain}
		for file, text := range map[string]string{
			"go.mod":               "module example.com/x\n\ngo 1.26.0\n",
			"cmd/mailkeep/main.go": "package main\n\nvar version string\n\nfunc main() { println(version, builtAt) }\n",
			"cmd/mailkeep/at.go":   fmt.Sprintf("package main\n\nconst builtAt = %q\n", at),
		} {
			file = filepath.Join(b.dir, file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	if program, err := buildTwice(tree("one", ""), tree("another", ""), platform, "x"); err != nil || len(program) == 0 {
		t.Error(err)
	}
	now := time.Now()
	for what, other := range map[string]build{
		"the time":   tree("another", now.Add(time.Second).String()),
		"the folder": tree("another", t.TempDir()),
	} {
		one := tree("one", now.String())
		if what == "the folder" {
			one = tree("one", t.TempDir())
		}
		if _, err := buildTwice(one, other, platform, "x"); err == nil || !strings.Contains(err.Error(), "two builds of the same commit differ") {
			t.Errorf("a program with %s in it: %v", what, err)
		}
	}
}

func TestSum(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := sum(dir, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// TestToolchain wants this module to name the toolchain that releases are built with.
func TestToolchain(t *testing.T) {
	if got, err := toolchainOf("../../.."); err != nil || !strings.HasPrefix(got, "go1.") {
		t.Errorf("%q, %v", got, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n\ngo 1.26.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := toolchainOf(dir); err == nil {
		t.Errorf("%q of a go.mod without one", got)
	}
}
