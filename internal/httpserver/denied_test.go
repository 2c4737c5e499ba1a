package httpserver

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestDeniedLog bounds the lines of each caller, and of all when there are too many to tell apart; every call
// is in a line, or is counted in one.
func TestDeniedLog(t *testing.T) {
	var d deniedLog
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	lines, counted := 0, 0
	const calls = 1000
	for range calls {
		if suppressed, ok := d.line("guesser", now); ok {
			lines, counted = lines+1, counted+suppressed
		}
		now = now.Add(100 * time.Millisecond)
	}
	if most := deniedBurst + int(calls*100*time.Millisecond/deniedEvery); lines > most || lines < deniedBurst {
		t.Errorf("%d lines for %d calls, want at most %d", lines, calls, most)
	}
	if _, ok := d.line("somebody else", now); !ok {
		t.Error("one caller takes another's lines")
	}
	now = now.Add(deniedEvery)
	suppressed, ok := d.line("guesser", now)
	if !ok || counted+suppressed+lines+1 != calls+1 {
		t.Errorf("%d lines that count %d more, of %d calls", lines+1, counted+suppressed, calls+1)
	}
	for n := range 10 * deniedTokens {
		d.line(fmt.Sprint(n), now)
	}
	if len(d.callers) > deniedTokens+1 {
		t.Errorf("%d callers are told apart", len(d.callers))
	}
	if _, ok := d.line("one more", now); ok {
		t.Error("new names have lines without end")
	}
	if _, ok := d.line("one more", now.Add(time.Hour)); !ok || len(d.callers) > 3 {
		t.Errorf("%d callers are kept for ever", len(d.callers))
	}
}

func TestValidRequestID(t *testing.T) {
	for id, want := range map[string]bool{
		"0af7651916cd43dd8448eb211c80319c": true, "123e4567-e89b-12d3-a456-426614174000": true, "a.b_c": true,
		strings.Repeat("x", maxRequestID): true, strings.Repeat("x", maxRequestID+1): false,
		"": false, "a b": false, "a\nb": false, "é": false, `a"`: false, "a=b": false, "\x1b[31m": false,
	} {
		if validRequestID(id) != want {
			t.Errorf("%q: %t", id, !want)
		}
	}
}
