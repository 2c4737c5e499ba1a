package delivery

import (
	"iter"
	"unicode"
	"unicode/utf8"
)

const (
	// minDigits is how long a word with a digit is that tells something: codes, amounts, dates.
	minDigits = 3
	// minCodedDigits is the same where anything may be the encoding of something.
	minCodedDigits = 4
	// minLetters is how long any other word is that does.
	minLetters = 8
)

// eachWord calls see for the words of a text: with their dashes and underscores, without, and the
// digits in them.
func eachWord(text string, see func(from, to int)) {
	for i, j := range spans(text, inCompound) {
		see(i, j)
		for k, l := range spans(text[i:j], inWord) {
			if l-k < j-i {
				see(i+k, i+l)
			}
			for m, n := range spans(text[i+k:i+l], unicode.IsDigit) {
				if n-m < l-k && n-m >= minCodedDigits {
					see(i+k+m, i+k+n)
				}
			}
		}
	}
}

// telling reports whether a word tells something of the mail that has it.
func telling(word string, minDigits int) bool {
	letters := 0
	for _, r := range word {
		if unicode.IsDigit(r) {
			return utf8.RuneCountInString(word) >= minDigits
		}
		if inWord(r) {
			letters++
		}
	}
	return letters >= minLetters
}

// spans are the longest parts of a text with nothing but certain characters.
func spans(text string, in func(rune) bool) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		from := -1
		for i, r := range text {
			switch {
			case in(r) && from < 0:
				from = i
			case !in(r) && from >= 0:
				if !yield(from, i) {
					return
				}
				from = -1
			}
		}
		if from >= 0 {
			yield(from, len(text))
		}
	}
}

func inWord(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r))
}

func inCompound(r rune) bool { return r == '-' || r == '_' || inWord(r) }
