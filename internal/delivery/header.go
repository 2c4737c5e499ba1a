package delivery

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/address"
)

const (
	// maxLine is the length of a line with an encoded word (RFC 2047, section 2), without CRLF; for
	// others RFC 5322, section 2.1.1 recommends two more.
	maxLine = 76
	// hardLine is the length that no line may exceed (RFC 5322, section 2.1.1).
	hardLine = 998
	// maxEncoded is how many bytes of text go into one encoded word, so that it has 64 characters
	// and fits behind the name of any header of ours.
	maxEncoded = 39
)

// writer builds a message.
type writer struct {
	b     []byte
	start int  // of the last line, while a header is written
	first bool // the next word is a header's first
}

// Write implements io.Writer. It never fails.
func (w *writer) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

func (w *writer) add(parts ...string) {
	for _, s := range parts {
		w.b = append(w.b, s...)
	}
}

func (w *writer) end() {
	w.b = append(w.b, '\r', '\n')
	w.start = len(w.b)
}

// field writes a header that fits in one line.
func (w *writer) field(name, value string) {
	w.add(name, ": ", value)
	w.end()
}

// begin begins a header, which is continued by word and ended by end.
func (w *writer) begin(name string) {
	w.add(name, ":")
	w.first = true
}

// word adds one word to a header, on a line of its own if it would make this one too long. The first
// stays behind the name, unless it is an encoded word, whose line has a limit.
func (w *writer) word(parts ...string) {
	column := len(w.b) - w.start + 1
	for _, s := range parts {
		column += len(s)
	}
	if column > maxLine && (!w.first || strings.HasPrefix(parts[0], "=?")) {
		w.end()
	}
	w.first = false
	w.add(" ")
	w.add(parts...)
}

// words adds what stands between spaces, with one space between.
func (w *writer) words(s string) {
	for word := range strings.SplitSeq(s, " ") {
		if word != "" {
			w.word(word)
		}
	}
}

var escapeQuoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// phrase adds a display name (RFC 5322, section 3.4).
func (w *writer) phrase(name string) {
	switch {
	case name == "":
	case foldable(name):
		w.words(`"` + escapeQuoted.Replace(name) + `"`)
	default:
		w.encodedWords(name)
	}
}

// text adds unstructured text.
func (w *writer) text(s string) {
	if foldable(s) {
		w.words(s)
	} else {
		w.encodedWords(s)
	}
}

// foldable reports whether a text comes back as it was from a folded header without being encoded:
// visible ASCII in short words with one space between, and nothing that looks like an encoded word.
func foldable(s string) bool {
	if !address.IsASCII(s) || strings.Contains(s, "=?") {
		return false
	}
	for word := range strings.SplitSeq(s, " ") {
		if word == "" || len(word) > maxLine/2 {
			return false
		}
	}
	return true
}

// encodedWords encodes a text as RFC 2047, section 4.1 has it, never splitting a character.
func (w *writer) encodedWords(s string) {
	for s != "" {
		n := min(len(s), maxEncoded)
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		w.word("=?utf-8?b?", base64.StdEncoding.EncodeToString([]byte(s[:n])), "?=")
		s = s[n:]
	}
}
