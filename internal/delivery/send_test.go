package delivery

import (
	"bytes"
	"testing"
)

func TestAppendDotted(t *testing.T) {
	for in, want := range map[string]string{
		"":                 ".\r\n",
		"a\r\n":            "a\r\n.\r\n",
		"a":                "a\r\n.\r\n",
		".\r\n":            "..\r\n.\r\n",
		".a\r\n..\r\n":     "..a\r\n...\r\n.\r\n",
		"a\n.\nb\n":        "a\r\n..\r\nb\r\n.\r\n",
		"a\r.\rb\r\n":      "a\r\n..\r\nb\r\n.\r\n",
		"a\r\r\n.":         "a\r\n\r\n..\r\n.\r\n",
		"\r\n\r\n":         "\r\n\r\n.\r\n",
		"a\r\n.\nQUIT\r\n": "a\r\n..\r\nQUIT\r\n.\r\n",
	} {
		if got := string(appendDotted([]byte("x"), []byte(in))); got != "x"+want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// FuzzAppendDotted: the first line with a dot only is the end, and CR and LF are always together.
func FuzzAppendDotted(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\n", "\n.\n", "\r.\r", ".", "\r\n..\r\r\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		all := appendDotted(nil, message)
		if at := bytes.Index(append([]byte("\r\n"), all...), []byte("\r\n.\r\n")); at != len(all)-3 {
			t.Errorf("%q ends at %d", all, at)
		}
		rest := bytes.ReplaceAll(all, []byte("\r\n"), nil)
		if bytes.ContainsAny(rest, "\r\n") {
			t.Errorf("%q", all)
		}
	})
}
