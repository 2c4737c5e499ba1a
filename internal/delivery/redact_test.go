package delivery

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/secret"
)

const canary = "c4n4ry p&ss+/wörd"

// encodings are what a server may make of what it was sent.
var encodings = map[string]func(string) string{
	"raw":   func(s string) string { return s },
	"upper": strings.ToUpper,
	"hex":   func(s string) string { return hex.EncodeToString([]byte(s)) },
	"HEX":   func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"query": url.QueryEscape,
	"path":  url.PathEscape,
	"html":  func(s string) string { return strings.ReplaceAll(s, "&", "&amp;") },
	"json":  func(s string) string { return strings.ReplaceAll(s, "&", `\u0026`) },
	"wide": func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteByte(byte(r))
			b.WriteByte(byte(r >> 8))
		}
		return b.String()
	},
	"base64":                    func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64 url":                func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
	"base64 +1":                 func(s string) string { return base64.StdEncoding.EncodeToString([]byte("\x00" + s)) },
	"base64 +2":                 func(s string) string { return base64.StdEncoding.EncodeToString([]byte("xy" + s + "z")) },
	"every byte in a URL":       func(s string) string { return eachByte("%%%02X", s) },
	"every byte in a mail":      func(s string) string { return eachByte("=%02X", s) },
	"every byte in a Go string": func(s string) string { return eachByte(`\x%02x`, s) },
	"every character in JSON":   func(s string) string { return eachRune(`\u%04x`, s) },
	"every character in HTML":   func(s string) string { return eachRune("&#%d;", s) },
	"and in hexadecimal":        func(s string) string { return eachRune("&#x%x;", s) },
	"blob": func(s string) string {
		return base64.StdEncoding.EncodeToString([]byte("\x00user@example.com\x00" + s))
	},
}

func eachByte(format, s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		fmt.Fprintf(&out, format, b)
	}
	return out.String()
}

func eachRune(format, s string) string {
	var out strings.Builder
	for _, r := range s {
		fmt.Fprintf(&out, format, r)
	}
	return out.String()
}

// TestRedactIsBounded has a token as long as one may be, and a reply as long as one may be.
func TestRedactIsBounded(t *testing.T) {
	token := strings.Repeat("0123456789<>&%;", maxAccessToken/15)
	text := strings.Repeat("no "+token[:40], maxReply/43)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got := newRedactor(secret.New(token)).show(text); !strings.Contains(got, redacted) || strings.Contains(got, token[:6]) {
		t.Errorf("%q", got)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d bytes allocated", grown)
	}
}

func TestRedact(t *testing.T) {
	r := newRedactor(secret.New(canary))
	for name, encode := range encodings {
		form := encode(canary)
		for _, text := range []string{form, "no: " + form, form + " is wrong", "AUTH PLAIN " + form + " (" + form + ")"} {
			got := r.show(text)
			for i := range len(form) - gram + 1 {
				if part := printable(form[i : i+gram]); strings.Contains(got, part) {
					t.Errorf("%s: %q still has %q", name, got, part)
				}
			}
			if !strings.Contains(got, redacted) {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
	for _, form := range []string{canary, encodings["blob"](canary)} {
		spaced := strings.Join(strings.Split(strings.ReplaceAll(form, " ", ""), ""), " \r\n ")
		if got := r.show("no: " + spaced); !strings.HasSuffix(got, redacted) || strings.Contains(got, "w") {
			t.Errorf("folded: %q", got)
		}
	}
	const innocent = "5.7.8 Authentication failed, see https://example.com/help?id=42 (mx1)"
	if got := r.show(innocent); got != innocent {
		t.Errorf("%q", got)
	}
}

func TestRedactShortAndNone(t *testing.T) {
	for known, want := range map[string]string{"": "ab abc YWI=", "ab": "[redacted] [redacted]"} {
		if got := newRedactor(secret.New(known)).show("ab abc YWI="); got != want {
			t.Errorf("%q: %q", known, got)
		}
	}
}

// FuzzShow: whatever a server puts around a secret, the secret is not shown, and what is shown is
// short, printable UTF-8.
func FuzzShow(f *testing.F) {
	for _, seed := range [][3]string{
		{canary, "535 no: ", "!"}, {"hunter22", "\x00user\x00", ""}, {"äöüß€😀", "a", "b"}, {"aaaaaaaa", "aaa", "aa"},
		{"pass word", "\xff\xfe", "\r\n"}, {"x\x01y\x02z\x03", "=", "=="},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, known, before, after string) {
		r := newRedactor(secret.New(known))
		inside := base64.StdEncoding.EncodeToString([]byte(before + known + after))
		for _, text := range []string{before + known + after, before + inside + after, inside} {
			shown := r.show(text)
			if len(shown) > maxShown || !utf8.ValidString(shown) || strings.ContainsFunc(shown, isControl) {
				t.Fatalf("%q", shown)
			}
			if known == "" {
				continue
			}
			for clean := range strings.SplitSeq(r.remove(text), redacted) {
				if strings.Contains(clean, known) || len(known) >= gram && strings.Contains(clean, inside) {
					t.Fatalf("%q is in %q", known, clean)
				}
			}
		}
	})
}
