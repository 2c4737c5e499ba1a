package delivery

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"
)

// forms returns a secret in every encoding to look for.
func forms(s string) []string {
	quoted, _ := json.Marshal(s) // a string always has a JSON form
	all := []string{
		s, hex.EncodeToString([]byte(s)), url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s),
		strings.Trim(string(quoted), `"`), strings.Trim(strconv.QuoteToASCII(s), `"`),
		base64.StdEncoding.EncodeToString([]byte(s)),
	}
	if short := string(squeeze(s).text); short != s {
		all = append(all, short)
	}
	var wide []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		wide = append(wide, byte(unit), byte(unit>>8))
	}
	for _, bin := range []string{s, string(wide), url.QueryEscape(s)} {
		all = append(all, inBase64(bin)...)
	}
	return append(all, string(wide))
}

// inBase64 returns what every base64 text with s somewhere inside has in common: one form for each
// of the three offsets, without the characters that also depend on a neighbour of s.
func inBase64(s string) []string {
	var all []string
	for offset := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString(append(bytes.Repeat([]byte{0}, offset), s...))
		from, to := (offset*8+5)/6, (offset+len(s))*8/6
		if to-from < 4 {
			continue // too little to tell from other text
		}
		form := encoded[from:to]
		all = append(all, form, strings.NewReplacer("+", "-", "/", "_").Replace(form))
	}
	return all
}

func isBase64(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' ||
		b == '+' || b == '/' || b == '=' || b == '-' || b == '_'
}
