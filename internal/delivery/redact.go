package delivery

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	// maxRead is how much of it is looked at, in bytes: more than enough for maxShown to be left.
	maxRead = 4 << 10
	// maxShown is how many bytes of a server's text are shown.
	maxShown = 256
	// gram is how much of a secret in a row is already too much. It is what makes a repeated
	// command that the server has cut off harmless.
	gram     = 6
	redacted = "[redacted]"
)

// redactor removes the secrets it knows from texts, in every encoding a server is likely to repeat
// them in.
type redactor struct {
	secrets []string
	mail    *content // nil until the server knows one
}

func newRedactor(known secret.Text) *redactor { return &redactor{secrets: []string{known.Reveal()}} }

// add makes the redactor know another secret.
func (r *redactor) add(s string) { r.secrets = append(r.secrets, s) }

// show returns a text that can be shown: without secrets, at most maxShown bytes, printable UTF-8.
func (r *redactor) show(text string) string {
	return cut(printable(r.remove(text[:min(len(text), maxRead)])))
}

// quote is show for what a server has said, and without what it repeats of the mail.
func (r *redactor) quote(text string) string {
	text = text[:min(len(text), maxRead)]
	marks := r.secret(text)
	if r.mail != nil {
		for i, repeated := range r.mail.repeats(text) {
			marks[i] = marks[i] || repeated
		}
	}
	return cut(printable(replaceMarked(text, marks)))
}

// remove returns text without secrets.
func (r *redactor) remove(text string) string { return replaceMarked(text, r.secret(text)) }

// secret marks the bytes of text that are part of a secret.
func (r *redactor) secret(text string) []bool {
	known := newNeedles(r.secrets)
	marks := known.find(text)
	for _, seen := range []view{squeeze(text), unescape(text)} {
		found := known.find(string(seen.text))
		for i, marked := range found {
			from := i
			if i > 0 && found[i-1] {
				from = i - 1 // with what was left out between
			}
			if marked {
				mark(marks, seen.from[from], seen.to[i])
			}
		}
	}
	spread(text, marks)
	return marks
}

// needles are what secrets look like, in lower case.
type needles []string

func newNeedles(secrets []string) (n needles) {
	for _, s := range secrets {
		for _, form := range forms(s) {
			if form != "" {
				n = append(n, lowerASCII(form))
			}
		}
	}
	return n
}

// find marks the bytes of text that are part of a secret: each gram of one, and short secrets whole.
// It is the text that is indexed, because a server chooses how long a bearer token is.
func (n needles) find(text string) []bool {
	lower := lowerASCII(text)
	grams := map[string][]int{}
	for i := range max(0, len(lower)-gram+1) {
		grams[lower[i:i+gram]] = append(grams[lower[i:i+gram]], i)
	}
	marks := make([]bool, len(text))
	for _, form := range n {
		for i := range max(0, len(form)-gram+1) {
			for _, at := range grams[form[i:i+gram]] {
				mark(marks, at, at+gram)
			}
			delete(grams, form[i:i+gram]) // once is enough
		}
		for i := 0; len(form) < gram && i < len(lower); i++ {
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

// view is a text as somebody may read another one, and where in that each of its bytes came from.
type view struct {
	text     []byte
	from, to []int
}

func (v *view) add(s string, from, to int) {
	v.text = append(v.text, s...)
	for range len(s) {
		v.from, v.to = append(v.from, from), append(v.to, to)
	}
}

// squeeze leaves out spaces and controls, since a server may fold what it repeats.
func squeeze(text string) (v view) {
	for i := range len(text) {
		if text[i] > ' ' && text[i] != 0x7f {
			v.add(text[i:i+1], i, i+1)
		}
	}
	return v
}

// escape is one character as a URL, quoted-printable, a JSON or Go string, or HTML may have it.
var escape = regexp.MustCompile(`[%=]([0-9A-Fa-f]{2})|\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|&#[xX]([0-9A-Fa-f]{1,6});|&#([0-9]{1,7});|` +
	`\\([nrt"'/\\])|&(amp|lt|gt|quot|apos|nbsp);`)

// named are the escapes without a number.
var named = map[string]string{
	"n": "\n", "r": "\r", "t": "\t", "amp": "&", "lt": "<", "gt": ">", "quot": `"`, "apos": "'", "nbsp": " ",
}

// unescape replaces escapes by what they stand for.
func unescape(text string) view { return unescapeView(plainView(text)) }

func plainView(text string) (v view) {
	for i := range len(text) {
		v.add(text[i:i+1], i, i+1)
	}
	return v
}

func unescapeView(seen view) (v view) {
	text, last := string(seen.text), 0
	for _, m := range escape.FindAllStringSubmatchIndex(text, -1) {
		v.addPart(seen, last, m[0])
		last = m[1]
		v.add(unescaped(text, m), seen.from[m[0]], seen.to[m[1]-1])
	}
	v.addPart(seen, last, len(text))
	return v
}

// addPart adds the bytes from i to j of another view.
func (v *view) addPart(other view, i, j int) {
	v.text = append(v.text, other.text[i:j]...)
	v.from, v.to = append(v.from, other.from[i:j]...), append(v.to, other.to[i:j]...)
}

// unescaped returns what a match of escape stands for.
func unescaped(text string, m []int) string {
	for group := 1; group < len(m)/2; group++ {
		if m[2*group] < 0 {
			continue
		}
		found := text[m[2*group]:m[2*group+1]]
		if group > 5 {
			return cmp.Or(named[found], found)
		}
		base := 16
		if group == 5 {
			base = 10
		}
		code, _ := strconv.ParseUint(found, base, 32)
		if group <= 2 {
			return string([]byte{byte(code)})
		}
		return string(rune(code))
	}
	return ""
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
