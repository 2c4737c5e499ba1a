// Package secrettest finds secrets where they must not be, in whatever form they got there.
package secrettest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Canary returns a secret that no text has by chance, with characters that show what becomes of it: each
// encoding has its own way with a space, a quote, what URLs, HTML and base64 reserve, and what is not ASCII.
func Canary(name string) string { return "c4n4ry " + name + ` p&ss+/wö"rd<'>%=\😀 y4n4c` }

// encodings are what programs make of a text on its way, by name.
var encodings = map[string]func(string) string{
	"raw":                       func(s string) string { return s },
	"upper case":                strings.ToUpper,
	"hex":                       func(s string) string { return hex.EncodeToString([]byte(s)) },
	"HEX":                       func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"URL query":                 url.QueryEscape,
	"URL path":                  url.PathEscape,
	"HTML":                      html.EscapeString,
	"JSON":                      func(s string) string { return inJSON(s, true) },
	"JSON without HTML escapes": func(s string) string { return inJSON(s, false) },
	"Go string":                 func(s string) string { return unquoted(strconv.Quote(s)) },
	"ASCII Go string":           func(s string) string { return unquoted(strconv.QuoteToASCII(s)) },
	"Go bytes":                  func(s string) string { return inBytes(s, " ") },
	"JSON bytes":                func(s string) string { return inBytes(s, ",") },
	"UTF-16, low byte first":    func(s string) string { return inUTF16(s, 0, 8) },
	"UTF-16, high byte first":   func(s string) string { return inUTF16(s, 8, 0) },
	"base64":                    func(s string) string { return inBase64(base64.StdEncoding, s, 0) },
	"base64, a byte later":      func(s string) string { return inBase64(base64.StdEncoding, s, 1) },
	"base64, two bytes later":   func(s string) string { return inBase64(base64.StdEncoding, s, 2) },
	"base64 URL":                func(s string) string { return inBase64(base64.URLEncoding, s, 0) },
	"base64 URL, a byte later":  func(s string) string { return inBase64(base64.URLEncoding, s, 1) },
	"base64 URL, two later":     func(s string) string { return inBase64(base64.URLEncoding, s, 2) },
	"every byte in a URL":       func(s string) string { return eachByte("%%%02X", s) },
	"every byte in a mail":      func(s string) string { return eachByte("=%02X", s) },
	"every byte in a Go string": func(s string) string { return eachByte(`\x%02x`, s) },
	"every byte in octal":       func(s string) string { return eachByte(`\%03o`, s) },
}

func inJSON(s string, escapeHTML bool) string {
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(escapeHTML)
	_ = e.Encode(s) // a string
	return unquoted(strings.TrimSpace(out.String()))
}

func unquoted(s string) string { return s[1 : len(s)-1] }

func inUTF16(s string, first, second int) string {
	var out []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		out = append(out, byte(unit>>first), byte(unit>>second))
	}
	return string(out)
}

// inBase64 returns what base64 makes of s behind so many other bytes, without the digits that these or what
// comes after s have a part in.
func inBase64(e *base64.Encoding, s string, after int) string {
	from, to := (after*8+5)/6, (after+len(s))*8/6
	return e.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, after), s...))[from:to]
}

func inBytes(s, between string) string {
	return strings.TrimSuffix(eachByte("%d"+between, s), between)
}

func eachByte(format, s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		fmt.Fprintf(&out, format, b)
	}
	return out.String()
}
