package delivery

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestSearch compares with looking for one thing after another, over few letters so that much overlaps.
func TestSearch(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	some := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "12 "[random.IntN(5)%3]
		}
		return string(b)
	}
	for range 300 {
		text, mail := some(60), some(random.IntN(2000))
		s := newSearch()
		v := plainView(text)
		s.ask(v, v.text, 3, false)
		if !s.ready() {
			t.Fatal("too much")
		}
		cut := random.IntN(len(mail) + 1)
		s.read(mail[:cut])
		s.read(mail[cut:])
		got, want := make([]bool, len(text)), make([]bool, len(text))
		s.found(got, got)
		for i, j := range spans(text, inWord) {
			if j-i >= 3 && strings.Contains(mail, text[i:j]) {
				mark(want, i, j)
			}
		}
		tight, tightMail := squeeze(text), strings.ReplaceAll(mail, " ", "")
		for _, size := range []int{minRun, minCodedRun} {
			for i := range max(0, len(tight.text)-size+1) {
				from, to := tight.from[i], tight.to[i+size-1]
				if (size == minRun || to-from >= 2*size) && strings.Contains(tightMail, string(tight.text[i:i+size])) {
					mark(want, from, to)
				}
			}
		}
		for i := range want {
			if got[i] != want[i] && text[i] != ' ' {
				t.Fatalf("%q: %v, not %v, at %d", text, got[i], want[i], i)
			}
		}
	}
}

// TestSearchTooMuch: nothing is looked for half.
func TestSearchTooMuch(t *testing.T) {
	for n, want := range map[int]bool{100: true, 1 << 14: false} {
		s := newSearch()
		for i := range n {
			s.add(fmt.Sprintf("word%d", i), 0, 1, false)
		}
		if s.ready() != want {
			t.Errorf("%d words: %v", n, !want)
		}
	}
}
