package secrettest

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// Scanner looks for secrets in every form there is of them. Half of one is enough.
type Scanner struct{ needles []needle }

type needle struct {
	what string // the secret's name, and the form
	form []byte
}

// Watch has the scanner look for a secret, by a name that may be shown.
func (s *Scanner) Watch(name, secret string) {
	middle := len(secret) / 2
	for !utf8.RuneStart(secret[middle]) {
		middle++
	}
	for encoding, encode := range encodings {
		for part, text := range map[string]string{"first": secret[:middle], "second": secret[middle:]} {
			s.needles = append(s.needles, needle{name + ", its " + part + " half, as " + encoding, []byte(encode(text))})
		}
	}
}

// Find returns what of which secrets is in the data, in which form.
func (s *Scanner) Find(data []byte) (found []string) {
	for _, n := range s.needles {
		if bytes.Contains(data, n.form) {
			found = append(found, n.what)
		}
	}
	slices.Sort(found)
	return found
}
