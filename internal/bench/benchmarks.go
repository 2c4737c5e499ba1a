package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// benchmarks are the store's own: bare loops that the service is held against, and what nobody else can
// do as fast, such as filling a store.
type benchmarks struct {
	path   string
	folder string // that tests of the package run in
}

// claimedBatches is how many batches the benchmark claims.
const claimedBatches = "200x"

func buildBenchmarks(ctx context.Context, dir string) (*benchmarks, error) {
	t := &benchmarks{path: filepath.Join(dir, "sqlstore.test"), folder: filepath.FromSlash("internal/sqlstore")}
	if output, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", t.path, "./internal/sqlstore").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go test -c ./internal/sqlstore: %w\n%s", err, output)
	}
	return t, nil
}

// claim is a cell of claiming 100 mails from a store with so many settled ones.
func (b *bed) claim(name string, settled int) *cell {
	return &cell{name: name, unit: "µs", open: func() (measure, error) {
		t, err := b.benchmarks()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) (sample, error) { return t.claim(ctx, settled) }, nil
	}}
}

// bare is a cell of a bare loop.
func (b *bed) bare(name, unit, benchmark string) *cell {
	return &cell{name: name, unit: unit, open: func() (measure, error) {
		t, err := b.benchmarks()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) (sample, error) { return t.perSecond(ctx, benchmark, b.length) }, nil
	}}
}

func (t *benchmarks) claim(ctx context.Context, settled int) (sample, error) {
	output, err := t.run(ctx, fmt.Sprintf("^BenchmarkClaim$/^settled=%d$", settled), claimedBatches)
	if err != nil {
		return sample{}, err
	}
	return readClaims(output)
}

// perSecond returns how often in a second a benchmark does what it does.
func (t *benchmarks) perSecond(ctx context.Context, benchmark string, length time.Duration) (s sample, err error) {
	output, err := t.run(ctx, "^"+benchmark+"$", length.String())
	if err != nil {
		return s, err
	}
	took := metrics(output)["ns/op"]
	if took <= 0 {
		return s, fmt.Errorf("%s did not print ns/op but\n%s", benchmark, output)
	}
	s.value = float64(time.Second) / took
	return s, nil
}

// fill copies the one provider of a SQLite file.
func (t *benchmarks) fill(ctx context.Context, file string, copies int) error {
	_, err := t.run(ctx, "^BenchmarkFill$", "1x", "-fill="+file, "-copies="+strconv.Itoa(copies))
	return err
}

// run returns what a benchmark prints; length is how often or for how long it runs.
func (t *benchmarks) run(ctx context.Context, benchmark, length string, flags ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	defer cancel()
	command := exec.CommandContext(ctx, t.path, append(flags, "-test.run=^$", "-test.benchtime="+length, "-test.bench="+benchmark)...)
	command.Dir = t.folder
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", benchmark, err, output)
	}
	return output, nil
}

// readClaims reads what the benchmark of claims has printed.
func readClaims(output []byte) (s sample, err error) {
	metric := metrics(output)
	s.value, s.heap = metric["claim-ns/op"]/1000, metric["heap-B"]/mib
	if s.value <= 0 || s.heap <= 0 {
		return s, fmt.Errorf("BenchmarkClaim did not print claim-ns/op and heap-B but\n%s", output)
	}
	return s, nil
}

// metrics are the numbers that a benchmark has printed, by their units.
func metrics(output []byte) map[string]float64 {
	metric := map[string]float64{}
	fields := strings.Fields(string(output))
	for i := 1; i < len(fields); i++ {
		if n, err := strconv.ParseFloat(fields[i-1], 64); err == nil {
			metric[fields[i]] = n
		}
	}
	return metric
}
