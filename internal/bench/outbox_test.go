package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/outbox"
)

// settled answers Settle.
type settled struct {
	app.Store
	refused []outbox.Lease
	err     error
}

func (s settled) Settle(context.Context, []outbox.Settlement) ([]outbox.Lease, error) {
	return s.refused, s.err
}

// TestRecording counts only what is delivered and recorded.
func TestRecording(t *testing.T) {
	r := &recording{all: make(chan struct{})}
	r.left.Store(3)
	for i, step := range []struct {
		store  settled
		states []outbox.State
		left   int64
	}{
		{settled{err: errors.New("disk full")}, []outbox.State{outbox.Delivered}, 3},
		{settled{}, []outbox.State{outbox.Queued, outbox.Delivered, outbox.Failed}, 2},
		{settled{refused: []outbox.Lease{{}}}, []outbox.State{outbox.Delivered, outbox.Delivered}, 1},
	} {
		r.Store = step.store
		var settlements []outbox.Settlement
		for _, state := range step.states {
			settlements = append(settlements, outbox.Settlement{State: state})
		}
		if _, err := r.Settle(t.Context(), settlements); !errors.Is(err, step.store.err) || r.left.Load() != step.left {
			t.Errorf("%d: %v, %d left, want %d", i, err, r.left.Load(), step.left)
		}
	}
	if _, err := r.drained(t.Context(), 3, time.Millisecond); err == nil || !strings.Contains(err.Error(), "1 of 3") {
		t.Errorf("%v, want that one is missing", err)
	}
	r.Store = settled{}
	if _, err := r.Settle(t.Context(), []outbox.Settlement{{State: outbox.Delivered}}); err != nil {
		t.Fatal(err)
	}
	if s, err := r.drained(t.Context(), 3, patience); err != nil || s.value <= 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// losing says that it has taken mails that it has not.
type losing struct {
	app.Store
}

func (losing) Accept(_ context.Context, m outbox.Message, _ outbox.Sealed) (outbox.Message, error) {
	return m, nil
}

// unkept is a caller whose mails nobody keeps.
type unkept struct{}

func (unkept) call() error  { return nil }
func (unkept) Close() error { return nil }

// TestReconciled breaks the store under two measurements.
func TestReconciled(t *testing.T) {
	b, err := newBed(time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.close() }()
	lossy := b.silent("", b.sqlite, func(*service) (load, error) {
		return load{callers: 1, length: b.length, dial: func(context.Context, time.Time) (caller, error) {
			return unkept{}, nil
		}}, nil
	})
	measure, err := lossy.open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := measure(t.Context()); err == nil || !strings.Contains(err.Error(), "were accepted, and there are 0") {
		t.Errorf("%v, want that mails are missing", err)
	}
	err = b.play(t.Context(), stage{
		on: b.sqlite, address: "127.0.0.1:25",
		wrap:   func(s app.Store) app.Store { return losing{s} },
		before: func(to *service) error { return to.fill(t.Context(), 5) },
		while: func(ctx context.Context, to *service) error {
			if n, err := to.mails(ctx); n != 0 || err != nil {
				t.Errorf("%d mails, %v, want none in a store that keeps none", n, err)
			}
			return nil
		},
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReadClaims(t *testing.T) {
	const line = "BenchmarkClaim/settled=1000-2 \t 200\t 2534858 ns/op\t 2000000 claim-ns/op\t 2097152 heap-B\t 1 rss-B\nPASS\n"
	if s, err := readClaims([]byte(line)); err != nil || s.value != 2000 || s.heap != 2 {
		t.Errorf("%+v, %v, want 2000 µs and 2 MiB", s, err)
	}
	for _, output := range []string{"PASS\n", strings.ReplaceAll(line, "heap-B", "x"), strings.ReplaceAll(line, "claim-", "")} {
		if _, err := readClaims([]byte(output)); err == nil {
			t.Errorf("%q is read", output)
		}
	}
}
