package limit

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailkeep/mailkeep/internal/fault"
)

func bearer(token string) []string { return []string{"Bearer " + token} }

// TestFailures: an address that has sent too many wrong tokens is heard only with one that was right before.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewCalls(Config{Policies: Everybody{}, FailuresByRemote: 10, Now: time.Now})
		l.Heard("192.0.2.1:1", bearer("good"), true)
		heard := 0
		for n := range 100 {
			remote := fmt.Sprintf("192.0.2.1:%d", n+1)
			if l.Hear(remote, bearer("bad")) == nil {
				heard++
				l.Heard(remote, bearer("bad"), false)
			}
		}
		if heard != 20 {
			t.Errorf("%d of 100 were heard, want two seconds' worth of 10", heard)
		}
		err := l.Hear("192.0.2.1:7", bearer("bad"))
		if fault.KindOf(err) != fault.ResourceExhausted || !strings.Contains(err.Error(), "10 calls per second without a valid token") {
			t.Errorf("the refusal is %v", err)
		}
		for what, c := range map[string]struct {
			remote        string
			authorization []string
		}{
			"a token that was good":  {"192.0.2.1:8", bearer("good")},
			"another address":        {"192.0.2.2:8", bearer("bad")},
			"an address without one": {"", nil},
		} {
			if err := l.Hear(c.remote, c.authorization); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		for what, authorization := range map[string][]string{
			"none": nil, "two": {"Bearer good", "Bearer good"}, "empty": {""},
		} {
			if l.Hear("[::ffff:192.0.2.1]:9", authorization) == nil {
				t.Errorf("a token that is %s is heard", what)
			}
		}
		time.Sleep(100 * time.Millisecond)
		if err := l.Hear("192.0.2.1:1", bearer("bad")); err != nil {
			t.Errorf("when its time has come: %v", err)
		}
	})
}

// TestNetwork: one network is one address, whichever of its addresses are used.
func TestNetwork(t *testing.T) {
	for a, b := range map[string]string{
		"[2001:db8::1]:1": "[2001:db8::ffff:ffff:ffff:ffff]:2", "192.0.2.1:1": "[::ffff:192.0.2.1]:2", "[fe80::1%eth0]:1": "[fe80::2%eth1]:1",
	} {
		if addressOf(a) != addressOf(b) {
			t.Errorf("%s and %s are two", a, b)
		}
	}
	for a, b := range map[string]string{"[2001:db8::1]:1": "[2001:db8:0:1::1]:1", "192.0.2.1:1": "192.0.2.2:1"} {
		if addressOf(a) == addressOf(b) {
			t.Errorf("%s and %s are one", a, b)
		}
	}
}

// TestStreams: an instance has its bound of them, and leaves some of the whole to others.
func TestStreams(t *testing.T) {
	l := NewCalls(Config{Policies: Everybody{Streams: 3}, Streams: 10, Now: time.Now})
	for range 3 {
		if err := l.Enter(t.Context(), "i", true); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Enter(t.Context(), "i", true); fault.KindOf(err) != fault.ResourceExhausted {
		t.Errorf("over its own bound: %v", err)
	}
	l = NewCalls(Config{Policies: Everybody{}, Streams: 10, Now: time.Now})
	for range 8 {
		if err := l.Enter(t.Context(), "i", true); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Enter(t.Context(), "i", true); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("over its share: %v", err)
	}
	if err := l.Enter(t.Context(), "other", true); err != nil {
		t.Errorf("another: %v", err)
	}
}

// TestAdmittedAllocates: bounding a call that is admitted allocates nothing.
func TestAdmittedAllocates(t *testing.T) {
	l := NewCalls(Config{
		Policies: Everybody{CallsPerSecond: 1 << 20, Streams: 10}, InFlight: 100, Streams: 100, FailuresByRemote: 10, Now: time.Now,
	})
	ctx, token := t.Context(), bearer("good")
	for _, streams := range []bool{false, true} {
		if n := testing.AllocsPerRun(1000, func() {
			if l.Enter(ctx, "i", streams) != nil || l.Hear("192.0.2.1:1", token) != nil {
				t.Error("refused")
			}
			l.Heard("192.0.2.1:1", token, true)
			if l.Take(ctx, "i") != nil {
				t.Error("over the rate")
			}
			l.Leave("i", streams)
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// BenchmarkAdmitted is what bounding costs a call that is admitted.
func BenchmarkAdmitted(b *testing.B) {
	l := NewCalls(Config{Policies: Everybody{CallsPerSecond: 1 << 30}, InFlight: 100, FailuresByRemote: 10, Now: time.Now})
	ctx, token := b.Context(), bearer("good")
	for b.Loop() {
		_ = l.Enter(ctx, "i", false)
		_ = l.Hear("192.0.2.1:1", token)
		l.Heard("192.0.2.1:1", token, true)
		_ = l.Take(ctx, "i")
		l.Leave("i", false)
	}
}
