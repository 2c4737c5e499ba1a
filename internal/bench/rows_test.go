package main

import (
	"bytes"
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/gen/zitadel/admin/v1/adminv1connect"
	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// TestRows measures, for a moment, every row but those of the built program and of a million mails.
func TestRows(t *testing.T) {
	t.Chdir(filepath.Join("..", "..")) // where the program is run
	b, err := newBed(10 * time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	b.million = 1000
	var inProcess []*row
	others := append(b.storeRows(), b.programRows()...)
	for _, r := range rows(b) {
		if !slices.ContainsFunc(others, func(o *row) bool { return o.name == r.name }) {
			inProcess = append(inProcess, r)
		}
	}
	trial := newTrial(1, 1)
	if err := trial.run(t.Context(), inProcess); err != nil {
		t.Fatal(err)
	}
	for _, r := range inProcess {
		if len(r.values) != 1 || r.values[0] <= 0 || math.IsInf(r.values[0], 0) {
			t.Errorf("%s: %v", r.name, r.values)
		}
	}
}

// TestGRPCWantsAMessage makes calls that fail in different ways, and one that does not.
func TestGRPCWantsAMessage(t *testing.T) {
	b, err := newBed(0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.close() }()
	s, err := b.single()
	if err != nil {
		t.Fatal(err)
	}
	known := s.all[0].provider
	for name, test := range map[string]struct {
		procedure, provider string
		ok                  bool
	}{
		"good":     {adminv1connect.AdminServiceUpdateEmailProviderSMTPPasswordProcedure, known, true},
		"fails":    {adminv1connect.AdminServiceUpdateEmailProviderSMTPPasswordProcedure, "1", false},
		"unknown":  {"/zitadel.admin.v1.AdminService/None", known, false},
		"no match": {"/", known, false},
	} {
		dial, err := overGRPC(test.procedure, setPasswordGRPC)(endpoint{s.address, test.provider})
		if err != nil {
			t.Fatal(err)
		}
		c, err := dial(t.Context(), time.Now().Add(patience))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := c.call(); (err == nil) != test.ok {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// counting counts what reaches the store.
type counting struct {
	app.Store
	reads int
}

func (c *counting) Provider(_ context.Context, _, id string) (p emailprovider.Provider, err error) {
	c.reads++
	if id == "" {
		return p, emailprovider.ErrNotFound
	}
	return emailprovider.Provider{ID: id}, nil
}

func (c *counting) TokenByHash(_ context.Context, hash [32]byte) (t auth.Token, err error) {
	c.reads++
	if hash == [32]byte{} {
		return t, auth.ErrNotFound
	}
	return auth.Token{Hash: hash}, nil
}

func TestMemory(t *testing.T) {
	behind := &counting{}
	m := remember(behind)
	for range 3 {
		if p, err := m.Provider(t.Context(), "", "1"); p.ID != "1" || err != nil {
			t.Errorf("%+v, %v", p, err)
		}
		if token, err := m.TokenByHash(t.Context(), [32]byte{1}); token.Hash != [32]byte{1} || err != nil {
			t.Errorf("%+v, %v", token, err)
		}
		if _, err := m.Provider(t.Context(), "", ""); err == nil {
			t.Error("a provider that does not exist")
		}
		if _, err := m.TokenByHash(t.Context(), [32]byte{}); err == nil {
			t.Error("a token that does not exist")
		}
	}
	if behind.reads != 1+1+3+3 {
		t.Errorf("%d reads reached the store, want one for each entry and all that found nothing", behind.reads)
	}
}

func TestReport(t *testing.T) {
	slow := &cell{name: "slow", unit: "ms", samples: []sample{{value: 1234.5, others: 0.25}, {value: 1234.5, others: 0.75}}}
	counted := &cell{name: "counted", unit: "calls/s", samples: []sample{{value: 1.234, allocs: 56}}}
	late := absolute("late", slow, atMost(100, 30))
	late.values, late.others = []float64{1234.5, 1234.5}, []float64{0.25, 0.75}
	told := allocations("told", counted, target{})
	told.values, told.others = []float64{56}, []float64{0}
	open := allocations("open", counted, fewerThan(60))
	open.values, open.others = told.values, told.others
	var out bytes.Buffer
	err := report(&out, flags{Rounds: 5, MostRounds: 15, Length: time.Second}, []*row{late, told, open}, errors.New("it is not installed"))
	if err == nil || !strings.Contains(err.Error(), "missed: late") {
		t.Errorf("report: %v, want the row that was missed", err)
	}
	for _, line := range []string{
		"| late | 1234 ms | 1234 – 1234 | ≤ 100 | ≤ 30 | 2 | 50 % (75 %) | **FAIL** |\n",
		"| told | 56 allocations | 56 – 56 | – | – | 1 | 0 % (0 %) | information |\n",
		"| open | 56 allocations | 56 – 56 | ≤ 60 | fewer | 1 | 0 % (0 %) | pass |\n",
		"| slow | 1234 ms | 1234 – 1234 | – | 50 % (75 %) |\n",
		"**The rows of PostgreSQL were not measured: it is not installed.**\n",
		"| counted | 1.23 calls/s | 1.23 – 1.23 | 56 | 0 % (0 %) |\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("the report lacks\n%s", line)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
	late.target = atMost(2000, 30)
	if err := report(&out, flags{}, []*row{late, told}, nil); err != nil {
		t.Errorf("report without a miss: %v", err)
	}
}

func TestFlags(t *testing.T) {
	good := flags{Rounds: 5, MostRounds: 5, Length: time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, f := range map[string]flags{
		"--rounds":      {Rounds: 4, MostRounds: 5, Length: time.Second},
		"--most-rounds": {Rounds: 6, MostRounds: 5, Length: time.Second},
		"--length":      {Rounds: 5, MostRounds: 5},
	} {
		if err := f.Validate(); err == nil || !strings.Contains(err.Error(), name+" must") {
			t.Errorf("%+v: %v, want an error about %s", f, err, name)
		}
	}
	f := flags{Row: []string{"get", "RSS"}}
	for name, want := range map[string]bool{"Get by id": true, "idle RSS": true, "start": false} {
		if f.chooses(name) != want {
			t.Errorf("%q is chosen: %t", name, !want)
		}
	}
}
