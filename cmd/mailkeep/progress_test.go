package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgress(t *testing.T) {
	for _, test := range []struct {
		takes time.Duration
		want  string
	}{
		{999 * time.Millisecond, ""},
		{1300 * time.Millisecond, "|[#######                       ]  25% copying|checking …|"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			p := startProgress(&out)
			p.show("copying", 1<<20, 4<<20)
			time.Sleep(test.takes - 200*time.Millisecond)
			synctest.Wait()
			p.show("checking", 0, 0)
			time.Sleep(200 * time.Millisecond)
			p.clear()
			if got := strings.ReplaceAll(out.String(), eraseLine, "|"); got != test.want {
				t.Errorf("after %s: %q, want %q", test.takes, got, test.want)
			}
		})
	}
}

func TestProgressIsForTerminals(t *testing.T) {
	if p := newProgress(new(strings.Builder)); p.to != nil {
		t.Error("progress is shown where nobody looks")
	}
}
