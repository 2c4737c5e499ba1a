package delivery

import "strings"

const (
	// minRun is how much of a mail in a row is too much, whatever it says, in bytes but spaces.
	minRun = 12
	// minCodedRun is the same for what is encoded, since nobody encodes by chance.
	minCodedRun = 9
)

// search looks for much in a mail at once: first it is asked, then it is ready, then it reads, in time
// that is in proportion to the mail, whatever was asked.
type search struct {
	words trie
	runs  [2]runs // of minRun, and of minCodedRun
	asked []asked
}

// asked is one thing to look for, and what to mark when it is there.
type asked struct {
	word     string // or
	run      uint64 // of
	size     int    // an index in runs
	from, to int
	coded    bool
}

func newSearch() *search {
	return &search{words: trie{states: map[string]uint16{}}, runs: [2]runs{newRuns(minRun), newRuns(minCodedRun)}}
}

// ask asks for the words and runs of a text, which is that of a view in lower case. NULs are in none.
func (s *search) ask(v view, text []byte, minDigits int, coded bool) {
	eachWord(string(text), func(i, j int) {
		if telling(string(text[i:j]), minDigits) {
			s.word(v, text, i, j, coded)
		}
	})
	tight := v.tight(text)
	for size := range s.runs {
		r := &s.runs[size]
		r.reset()
		for i, b := range tight.text {
			if b == 0 {
				r.reset()
				continue
			}
			run, full := r.next(b)
			if !full {
				continue
			}
			from, to := tight.from[i-r.size+1], tight.to[i]
			if r.size < minRun && !coded && to-from < 2*r.size {
				continue // not an encoding
			}
			r.keys = append(r.keys, run)
			s.asked = append(s.asked, asked{run: run, size: size, from: from, to: to, coded: coded})
		}
	}
}

// word asks for a word: the bytes from i to j of a text, which is that of a view in lower case.
func (s *search) word(v view, text []byte, i, j int, coded bool) {
	word := string(text[i:j])
	s.add(word, v.from[i], v.to[j-1], coded)
	if folded := strings.ToLower(word); folded != word { // letters outside ASCII
		s.add(folded, v.from[i], v.to[j-1], coded)
	}
}

func (s *search) add(word string, from, to int, coded bool) {
	s.words.states[word] = 0
	s.asked = append(s.asked, asked{word: word, from: from, to: to, coded: coded})
}

// ready ends asking. It reports false if that was too much.
func (s *search) ready() bool {
	for i := range s.runs {
		s.runs[i].ready()
	}
	return s.words.ready()
}

// read goes through a part of the mail.
func (s *search) read(part string) {
	t, at := &s.words, s.words.at
	for i := range len(part) {
		b := lowered[part[i]]
		at = t.rows[int(at)*t.columns+int(t.column[b])]
		t.seen[at] = true
		if !loose[b] {
			s.runs[0].look(b)
			s.runs[1].look(b)
		}
	}
	t.at = at
}

// readRuns goes through what has no words.
func (s *search) readRuns(part []byte) {
	for _, b := range part {
		if b = lowered[b]; !loose[b] {
			s.runs[0].look(b)
			s.runs[1].look(b)
		}
	}
}

// found marks what was there, in one of two slices.
func (s *search) found(plain, coded []bool) {
	s.words.settle()
	for _, a := range s.asked {
		if a.word != "" && !s.words.has(a.word) || a.word == "" && !s.runs[a.size].has(a.run) {
			continue
		}
		if a.coded {
			mark(coded, a.from, a.to)
		} else {
			mark(plain, a.from, a.to)
		}
	}
}

var (
	lowered = func() (table [256]byte) {
		for b := range table {
			table[b] = lowerASCII(string([]byte{byte(b)}))[0]
		}
		return table
	}()
	// loose is what may be left out or added between two bytes of a run: spaces and controls, and
	// what stands for a space in URLs and encoded words (RFC 2047, section 4.2).
	loose = func() (table [256]bool) {
		for b := range table {
			table[b] = b <= ' ' || b == 0x7f || b == '_' || b == '+'
		}
		return table
	}()
)
