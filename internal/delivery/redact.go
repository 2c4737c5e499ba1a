package delivery

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	// maxShown is how many bytes of a server's text are shown.
	maxShown = 256
	// gram is how much of a secret in a row is already too much. It is what makes a repeated
	// command that the server has cut off harmless.
	gram     = 6
	redacted = "[redacted]"
)

// redactor removes the secrets it knows from texts, in every encoding a server is likely to repeat
// them in.
type redactor struct{ secrets []string }

func newRedactor(known secret.Text) *redactor { return &redactor{[]string{known.Reveal()}} }

// add makes the redactor know another secret.
func (r *redactor) add(s string) { r.secrets = append(r.secrets, s) }

// show returns a text that can be shown: without secrets, at most maxShown bytes, printable UTF-8.
func (r *redactor) show(text string) string { return cut(printable(r.remove(text))) }

// remove returns text without secrets.
func (r *redactor) remove(text string) string {
	known := newNeedles(r.secrets)
	marks := known.find(text)
	squeezed, where := squeeze(text)
	folded := known.find(squeezed)
	for i, marked := range folded {
		from := i
		if i > 0 && folded[i-1] {
			from = i - 1 // with what was left out between
		}
		if marked {
			mark(marks, where[from], where[i]+1)
		}
	}
	spread(text, marks)
	return replaceMarked(text, marks)
}

// needles are what secrets look like, in lower case.
type needles struct {
	grams map[string]bool // gram bytes each
	short []string        // whole forms of fewer bytes
}

func newNeedles(secrets []string) needles {
	n := needles{grams: map[string]bool{}}
	for _, s := range secrets {
		for _, form := range forms(s) {
			form = lowerASCII(form)
			if form != "" && len(form) < gram {
				n.short = append(n.short, form)
			}
			for i := range max(0, len(form)-gram+1) {
				n.grams[form[i:i+gram]] = true
			}
		}
	}
	return n
}

// find marks the bytes of text that are part of a secret.
func (n needles) find(text string) []bool {
	lower := lowerASCII(text)
	marks := make([]bool, len(text))
	for i := range max(0, len(lower)-gram+1) {
		if n.grams[lower[i:i+gram]] {
			mark(marks, i, i+gram)
		}
	}
	for _, form := range n.short {
		for i := range len(lower) {
			if strings.HasPrefix(lower[i:], form) {
				mark(marks, i, i+len(form))
			}
		}
	}
	return marks
}

// spread marks the base64 around marked bytes too: it is the rest of the same secret.
func spread(text string, marks []bool) {
	for i := 1; i < len(marks); i++ {
		marks[i] = marks[i] || marks[i-1] && isBase64(text[i-1]) && isBase64(text[i])
	}
	for i := len(marks) - 2; i >= 0; i-- {
		marks[i] = marks[i] || marks[i+1] && isBase64(text[i+1]) && isBase64(text[i])
	}
}

func mark(marks []bool, from, to int) {
	for i := from; i < to; i++ {
		marks[i] = true
	}
}

func replaceMarked(text string, marks []bool) string {
	if !slices.Contains(marks, true) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case !marks[i]:
			b.WriteByte(text[i])
		case i == 0 || !marks[i-1]:
			b.WriteString(redacted)
		}
	}
	return b.String()
}

// squeeze leaves out spaces and controls, since a server may fold what it repeats, and returns where
// in text each byte that is left came from.
func squeeze(text string) (squeezed string, where []int) {
	var b strings.Builder
	for i := range len(text) {
		if text[i] > ' ' && text[i] != 0x7f {
			b.WriteByte(text[i])
			where = append(where, i)
		}
	}
	return b.String(), where
}

// lowerASCII keeps the length, unlike strings.ToLower.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// printable escapes whatever is not a visible character or a space.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			quoted := strconv.QuoteToASCII(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// cut shortens s to maxShown bytes without splitting a character.
func cut(s string) string {
	if len(s) <= maxShown {
		return s
	}
	n := maxShown
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
