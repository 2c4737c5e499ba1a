package main

import (
	"os"
	"strings"
	"testing"
)

const (
	machine = "cpu  100 20 3000 50000 600 7 80 9 1000 2000\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
	self    = "42 (a ) (b) c) R 1 2 3 4 5 6 7 8 9 10 1000 200 30 4 20 0 1 0 99 0 0\n"
)

func TestParseCPU(t *testing.T) {
	got, err := parseCPU([]byte(machine), []byte(self))
	want := cpu{all: 53816, busy: 3216, own: 1234}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for name, files := range map[string][2]string{
		"empty":         {"", ""},
		"short machine": {"cpu 1 2 3 4\n", self},
		"other line":    {strings.Replace(machine, "cpu ", "intr", 1), self},
		"short self":    {machine, "42 (a) R 1 2"},
		"no name":       {machine, "42"},
		"no number":     {strings.Replace(machine, "3000", "many", 1), self},
	} {
		if got, err := parseCPU([]byte(files[0]), []byte(files[1])); err == nil {
			t.Errorf("%s: %+v, want an error", name, got)
		}
	}
}

// TestServerIsOurs reads the time of a server, whose children are its own: this process and what started it.
func TestServerIsOurs(t *testing.T) {
	alone, err := readCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	for alone.own == 0 && err == nil { // a clock tick at least
		alone, err = readCPU(0)
	}
	for name, server := range map[string]int{"itself": os.Getpid(), "its parent": os.Getppid()} {
		if with, err := readCPU(server); err != nil || with.own < 2*alone.own {
			t.Errorf("%s: %+v (%v), want our own time counted once more than in %+v", name, with, err, alone)
		}
	}
	if p, err := parseProcess([]byte(self)); err != nil || p != (processTimes{42, 1, 1234}) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestOthersSince(t *testing.T) {
	before := cpu{all: 1000, busy: 500, own: 100}
	for _, test := range []struct {
		after cpu
		want  float64
	}{
		{cpu{all: 1200, busy: 650, own: 200}, 0.25},
		{cpu{all: 1200, busy: 600, own: 200}, 0},
		{cpu{all: 1200, busy: 600, own: 201}, 0},
		{cpu{all: 1009, busy: 509, own: 100}, 0},
		{cpu{all: 1010, busy: 510, own: 100}, 1},
	} {
		if got := test.after.othersSince(before); got != test.want {
			t.Errorf("%+v after %+v: %v, want %v", test.after, before, got, test.want)
		}
	}
}

func TestOthersCPU(t *testing.T) {
	stop, err := othersCPU(func() int { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	if share, err := stop(); err != nil || share < 0 || share > 1 {
		t.Errorf("others used %v, %v", share, err)
	}
}
