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

// claims is the store's own benchmarks: of taking mails out of a queue, which puts settled mails into a
// store much faster than anybody else can, and of the bare loop that taking mails is held against.
type claims struct {
	path   string
	folder string // that tests of the package run in
}

// claimedBatches is how many batches the benchmark claims.
const claimedBatches = "200x"

func buildClaims(ctx context.Context, dir string) (*claims, error) {
	c := &claims{path: filepath.Join(dir, "sqlstore.test"), folder: filepath.FromSlash("internal/sqlstore")}
	if output, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", c.path, "./internal/sqlstore").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go test -c ./internal/sqlstore: %w\n%s", err, output)
	}
	return c, nil
}

// claim is a cell of claiming 100 mails from a store with so many settled ones.
func (b *bed) claim(name string, settled int) *cell {
	return &cell{name: name, unit: "µs", open: func() (measure, error) {
		c, err := b.claims()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) (sample, error) { return c.measure(ctx, settled) }, nil
	}}
}

func (c *claims) measure(ctx context.Context, settled int) (sample, error) {
	output, err := c.run(ctx, fmt.Sprintf("^BenchmarkClaim$/^settled=%d$", settled), claimedBatches)
	if err != nil {
		return sample{}, err
	}
	return readClaims(output)
}

// accept returns how many mails a second a bare loop makes durable.
func (c *claims) accept(ctx context.Context, length time.Duration) (s sample, err error) {
	output, err := c.run(ctx, "^BenchmarkBareAccept$", length.String())
	if err != nil {
		return s, err
	}
	took := metrics(output)["ns/op"]
	if took <= 0 {
		return s, fmt.Errorf("BenchmarkBareAccept did not print ns/op but\n%s", output)
	}
	s.value = float64(time.Second) / took
	return s, nil
}

// run returns what a benchmark prints; length is how often or for how long it runs.
func (c *claims) run(ctx context.Context, benchmark, length string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	defer cancel()
	command := exec.CommandContext(ctx, c.path, "-test.run=^$", "-test.benchtime="+length, "-test.bench="+benchmark)
	command.Dir = c.folder
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
