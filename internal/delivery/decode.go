package delivery

import "strings"

// What is tried as an encoding, in digits: enough for minCodedDigits bytes.
const (
	minBase64 = 6
	minHex    = 8
)

// decodings returns what may be encoded somewhere in a text: base64 of both alphabets and hexadecimal,
// beginning anywhere, also folded.
func decodings(v view) (all []view) {
	texts := []view{v}
	if folded := v.without(func(b byte) bool { return b <= ' ' || b == 0x7f }); len(folded.text) < len(v.text) {
		texts = append(texts, folded)
	}
	for _, v := range texts {
		for i, j := range spans(string(v.text), func(r rune) bool { return sextet(r) >= 0 }) {
			for skip := 0; skip < 4 && j-i-skip >= minBase64; skip++ {
				all = append(all, v.decode(i+skip, j, 6, sextet))
			}
		}
		for i, j := range spans(string(v.text), func(r rune) bool { return nibble(r) >= 0 }) {
			for skip := 0; skip < 2 && j-i-skip >= minHex; skip++ {
				all = append(all, v.decode(i+skip, j, 4, nibble))
			}
		}
	}
	return all
}

// decode returns what the digits from i to j stand for, without NULs.
func (v view) decode(i, j, width int, value func(rune) int) (out view) {
	room := (j - i) * width / 8
	out = view{make([]byte, 0, room), make([]int, 0, room), make([]int, 0, room)}
	for held, have := 0, 0; i < j; i++ {
		held, have = held<<width|value(rune(v.text[i])), have+width
		if have < 8 {
			continue
		}
		have -= 8
		if b := byte(held >> have); b != 0 {
			out.text, out.from, out.to = append(out.text, b), append(out.from, v.from[i-1]), append(out.to, v.to[i])
		}
		held &= 1<<have - 1
	}
	return out
}

// sextet returns the value of a base64 digit, or -1.
func sextet(r rune) int {
	switch r {
	case '-':
		return 62
	case '_':
		return 63
	}
	return strings.IndexRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", r)
}

// nibble returns the value of a hexadecimal digit, or -1.
func nibble(r rune) int {
	if r >= 'A' && r <= 'F' {
		r += 'a' - 'A'
	}
	return strings.IndexRune("0123456789abcdef", r)
}

// lower returns the text of a view in lower case.
func (v view) lower() []byte { return []byte(lowerASCII(string(v.text))) }

// tight returns a view with another text of the same length, without what is loose. NULs stay.
func (v view) tight(text []byte) view {
	v.text = text
	return v.without(func(b byte) bool { return loose[b] && b != 0 })
}

// without leaves out some bytes.
func (v view) without(out func(byte) bool) (rest view) {
	for i, b := range v.text {
		if !out(b) {
			rest.text, rest.from, rest.to = append(rest.text, b), append(rest.from, v.from[i]), append(rest.to, v.to[i])
		}
	}
	return rest
}
