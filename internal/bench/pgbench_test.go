package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/pgcluster"
	"github.com/mailkeep/mailkeep/internal/pgcluster/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const printed = `transaction type: /tmp/mailkeep-bench-1.sql
scaling factor: 1
query mode: prepared
number of clients: 16
number of threads: 2
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 8861
number of failed transactions: 0 (0.000%)
latency average = 1.804 ms
initial connection time = 41.307 ms
tps = 8868.325301 (without initial connection time)
`

func TestReadPgbench(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(printed, old, new, 1) }
	for name, output := range map[string]string{
		"version 15": printed,
		"version 13": replace("tps = 8868.325301 (without initial connection time)",
			"tps = 8123.456789 (including connections establishing)\ntps = 8868.325301 (excluding connections establishing)"),
		"a number of transactions": replace("processed: 8861", "processed: 8861/9600"),
	} {
		if tps, done, err := readPgbench(output); tps != 8868.325301 || done != 8861 || err != nil {
			t.Errorf("%s: %v, %d, %v", name, tps, done, err)
		}
	}
	for name, output := range map[string]string{
		"nothing":              "",
		"no tps":               replace("tps = ", "rate = "),
		"with connecting only": replace("without initial connection time", "including connections establishing"),
		"no transactions":      replace("actually processed", "hoped for"),
		"failed ones":          replace("failed transactions: 0 (0.000%)", "failed transactions: 3 (0.034%)"),
		"none done":            replace("processed: 8861", "processed: 0"),
		"no speed":             replace("8868.325301", "0.000000"),
		"no number":            replace("8868.325301", "8868.32.53"),
	} {
		if tps, done, err := readPgbench(output); err == nil {
			t.Errorf("%s: %v, %d, want an error", name, tps, done)
		}
	}
}

func TestBounds(t *testing.T) {
	for length, want := range map[time.Duration]string{
		0: "--transactions=1", 10 * time.Millisecond: "--transactions=10", time.Second: "--time=2", 2600 * time.Millisecond: "--time=4",
	} {
		if got := bounds(length); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v, want %s", length, got, want)
		}
	}
}

// TestPgbenchIsReconciled has a table that loses what is put into it.
func TestPgbenchIsReconciled(t *testing.T) {
	p := &cluster{Cluster: pgtest.Cluster(t, pgcluster.Options{})}
	in, err := p.createBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.bench(t.Context(), in, 3, 10*time.Millisecond); err != nil || s.value <= 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := p.Query(t.Context(), in.name, `CREATE RULE lose AS ON INSERT TO bare_events WHERE NEW.provider % 2 = 0 DO INSTEAD NOTHING`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.bench(t.Context(), in, 3, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "pgbench made 300 changes, and there are ") {
		t.Errorf("%v, want that changes are missing", err)
	}
}

// TestDurable has servers, and a role, that may lose what they acknowledge.
func TestDurable(t *testing.T) {
	for _, name := range []string{"", "fsync", "full_page_writes", "synchronous_commit"} {
		settings := map[string]string{}
		want := ""
		if name != "" {
			settings[name], want = "off", "has "+name+"=off"
		}
		p := &cluster{Cluster: pgtest.Cluster(t, pgcluster.Options{Settings: settings})}
		wantRefusal(t, p, want)
		if name == "" {
			if _, err := p.Query(t.Context(), "postgres", `ALTER ROLE mailkeep SET synchronous_commit = local`); err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, p, "has synchronous_commit=local")
		}
	}
}

// wantRefusal measures a cell on the cluster.
func wantRefusal(t *testing.T, p *cluster, want string) {
	t.Helper()
	b := &bed{cluster: func() (*cluster, error) { return p, nil }}
	c := newTrial(1, 1).cell("cell", 1)
	b.ifDurable(c)
	measure, err := c.open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := measure(t.Context()); (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}
