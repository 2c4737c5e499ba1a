package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"time"
)

// bareSchema is what a password and a record of its changes need at least.
const bareSchema = `
	CREATE TABLE bare_providers (
		id bigint PRIMARY KEY, password bytea NOT NULL, version bigint NOT NULL, changed bigint NOT NULL
	);
	CREATE TABLE bare_events (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		provider bigint NOT NULL, at bigint NOT NULL, type text NOT NULL, details text NOT NULL
	);
	INSERT INTO bare_providers SELECT i, decode(repeat('78', 60), 'hex'), 1, 0 FROM generate_series(1, 1000) i`

// bareChange is a change of a password for pgbench.
const bareChange = `\set id random(1, 1000)
\set now random(1700000000000000, 1800000000000000)
BEGIN;
UPDATE bare_providers SET password = decode(repeat('79', 60), 'hex'), version = version + 1, changed = :now WHERE id = :id;
INSERT INTO bare_events (provider, at, type, details) VALUES (:id, :now, 'provider.password_changed', '{"fields":["password"]}');
COMMIT;
`

// pgbenchThreads is with how many threads pgbench drives its clients.
const pgbenchThreads = 2

// pgbench is a cell of PostgreSQL's own load with so many clients, in transactions a second.
func (b *bed) pgbench(clients int) *cell {
	return &cell{name: fmt.Sprintf("pgbench, UPDATE and INSERT in one transaction, clients: %d", clients), unit: "calls/s",
		open: func() (measure, error) {
			p, err := b.cluster()
			if err != nil {
				return nil, err
			}
			in, err := b.forPgbench()
			return func(ctx context.Context) (sample, error) { return p.bench(ctx, in, clients, b.length) }, err
		}}
}

// createBare makes the database for pgbench.
func (p *cluster) createBare(ctx context.Context) (database, error) {
	in, err := p.create(ctx)
	if err == nil {
		_, err = p.Query(ctx, in.name, bareSchema)
	}
	return in, err
}

// bench runs pgbench, and sees whether its transactions have left their rows.
func (p *cluster) bench(ctx context.Context, in database, clients int, length time.Duration) (s sample, err error) {
	if _, err := p.Query(ctx, in.name, `TRUNCATE bare_events`); err != nil {
		return s, err
	}
	script, err := readableFile(bareChange)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.Remove(script)) }()
	ctx, cancel := context.WithTimeout(ctx, length+patience)
	defer cancel()
	output, err := p.Command(ctx, "pgbench", append(bounds(length), "--no-vacuum", "--protocol=prepared", "--file="+script,
		"--client="+strconv.Itoa(clients), "--jobs="+strconv.Itoa(min(pgbenchThreads, clients)), in.name)...).CombinedOutput()
	if err != nil {
		return s, fmt.Errorf("pgbench: %w\n%s", err, output)
	}
	tps, done, err := readPgbench(string(output))
	if err != nil {
		return s, err
	}
	kept, err := p.Query(ctx, in.name, `SELECT count(*) FROM bare_events`)
	if err == nil && kept != strconv.Itoa(done) {
		err = fmt.Errorf("pgbench made %d changes, and there are %s", done, kept)
	}
	return sample{value: tps}, err
}

// bounds tell pgbench when to end. It measures whole seconds, from before its clients connect, for which
// it has a second more: that time does not count. What is shorter is a number of transactions of each
// client.
func bounds(length time.Duration) []string {
	if length < time.Second {
		return []string{"--transactions=" + strconv.Itoa(max(1, int(1000*length.Seconds())))}
	}
	return []string{"--time=" + strconv.Itoa(1+int(math.Round(length.Seconds())))}
}

// readableFile makes a file that the account which PostgreSQL runs as can read.
func readableFile(content string) (path string, err error) {
	f, err := os.CreateTemp("", "mailkeep-bench-*.sql")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(content)
	return f.Name(), errors.Join(err, f.Chmod(0o644), f.Close())
}

var (
	pgbenchTPS    = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \((?:without initial connection time|excluding connections establishing)\)$`)
	pgbenchDone   = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	pgbenchFailed = regexp.MustCompile(`(?m)^number of failed transactions: ([1-9]\d*)`)
)

// readPgbench reads what pgbench has printed: transactions a second, and how many there were in all.
func readPgbench(output string) (tps float64, done int, err error) {
	rate, count := pgbenchTPS.FindStringSubmatch(output), pgbenchDone.FindStringSubmatch(output)
	if rate == nil || count == nil || pgbenchFailed.MatchString(output) {
		return 0, 0, fmt.Errorf("pgbench did not print its tps and transactions, or some failed:\n%s", output)
	}
	tps, err = strconv.ParseFloat(rate[1], 64)
	done, err2 := strconv.Atoi(count[1])
	if err = errors.Join(err, err2); err == nil && (tps <= 0 || done == 0) {
		err = fmt.Errorf("pgbench did nothing:\n%s", output)
	}
	return tps, done, err
}
