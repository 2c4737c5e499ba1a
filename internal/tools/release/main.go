// Command release builds the program from the last commit for every platform, twice: in two folders, the
// second time with an empty build cache. Only if both are the same, bit for bit, are they written to dist,
// with a CycloneDX list of what is in them and their SHA-256.
//
// Anyone gets the same files of the same commit: the toolchain is the one that go.mod names, nothing of the
// machine, the time or the folder is built in.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var platforms = []string{"linux/amd64", "linux/arm64"}

func main() {
	version := flag.String("version", "", "what the program says it is; the commit if empty")
	to := flag.String("to", "dist", "folder to write to")
	flag.Parse()
	if err := run(*version, *to); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(version, to string) error {
	commit, err := output(".", nil, "git", "rev-parse", "--short=12", "HEAD")
	if err != nil {
		return err
	}
	if version == "" {
		version = strings.TrimSpace(string(commit))
	}
	toolchain, err := toolchainOf(".")
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	// Names of different length: a path that is built in moves everything behind it.
	first := build{dir: filepath.Join(temp, "one"), version: version, toolchain: toolchain}
	second := build{dir: filepath.Join(temp, "another"), version: version, toolchain: toolchain, cache: filepath.Join(temp, "cache")}
	for _, b := range []build{first, second} {
		if err := unpack(b.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	var files []string
	for _, platform := range platforms {
		name := "mailkeep-" + strings.ReplaceAll(platform, "/", "-")
		program, err := buildTwice(first, second, platform, name)
		if err != nil {
			return err
		}
		file := filepath.Join(to, name)
		if err := os.WriteFile(file, program, 0o755); err != nil {
			return err
		}
		if err := list(file, version); err != nil {
			return err
		}
		files = append(files, name, name+listSuffix)
		fmt.Printf("%s: %d bytes, the same twice (%s, commit %s)\n", name, len(program), toolchain, bytes.TrimSpace(commit))
	}
	return sum(to, files)
}

// toolchainOf returns the toolchain that the go.mod in a folder names.
func toolchainOf(dir string) (string, error) {
	out, err := output(dir, nil, "go", "mod", "edit", "-json")
	if err != nil {
		return "", err
	}
	var mod struct{ Toolchain string }
	if err := json.Unmarshal(out, &mod); err != nil {
		return "", err
	}
	if mod.Toolchain == "" {
		return "", errors.New("go.mod names no toolchain: another one builds something else")
	}
	return mod.Toolchain, nil
}

// unpack puts the files of the last commit into a folder, without the repository.
func unpack(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	files, err := output(".", nil, "git", "archive", "HEAD")
	if err != nil {
		return err
	}
	tar := exec.Command("tar", "-x", "-C", dir)
	tar.Stdin, tar.Stderr = bytes.NewReader(files), os.Stderr
	return tar.Run()
}

// build is how the program is built.
type build struct {
	dir, version, toolchain string
	cache                   string // the user's if empty
}

// program builds for a platform and returns what came of it.
func (b build) program(platform, name string) ([]byte, error) {
	system, arch, _ := strings.Cut(platform, "/")
	env := []string{"GOTOOLCHAIN=" + b.toolchain, "GOOS=" + system, "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0", "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT="}
	if b.cache != "" {
		env = append(env, "GOCACHE="+b.cache)
	}
	flags := "-s -w -X main.version=" + b.version
	if _, err := output(b.dir, env, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", name, "./cmd/mailkeep"); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(b.dir, name))
}

// buildTwice returns the program if both builds make the same of it.
func buildTwice(first, second build, platform, name string) ([]byte, error) {
	one, err := first.program(platform, name)
	if err != nil {
		return nil, err
	}
	other, err := second.program(platform, name)
	if err != nil {
		return nil, err
	}
	if err := compare(one, other); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return one, nil
}

// compare says where two files differ.
func compare(one, other []byte) error {
	if bytes.Equal(one, other) {
		return nil
	}
	at := 0
	for at < min(len(one), len(other)) && one[at] == other[at] {
		at++
	}
	return fmt.Errorf("two builds of the same commit differ, first at byte %d of %d and %d", at, len(one), len(other))
}

const listSuffix = ".cdx.json"

// list writes which modules are in a program, by what the program itself says, with their licences.
func list(file, version string) error {
	_, err := output(".", nil, "go", "tool", "-modfile=internal/tools/cyclonedx/go.mod", "cyclonedx-gomod", "bin", "-json", "-licenses", "-std",
		"-noserial", "-notimestamp", "-version", version, "-output", file+listSuffix, file)
	return err
}

// sum writes SHA256SUMS, which sha256sum -c reads.
func sum(dir string, files []string) error {
	var sums strings.Builder
	for _, name := range files {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), name)
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// output runs a command in a folder with more environment and returns what it prints.
func output(dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, args[0], err, &said)
	}
	return out, nil
}
