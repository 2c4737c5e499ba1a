package secrettest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// TestFind: whatever the form, and wherever in a text, half of a secret is found, and nothing else.
func TestFind(t *testing.T) {
	var s Scanner
	canary, other := Canary("password"), Canary("token")
	s.Watch("password", canary)
	for name, encode := range encodings {
		for half, text := range map[string]string{"first": canary[:len(canary)/2], "second": canary[len(canary)/2:]} {
			if found := s.Find([]byte("before " + encode(text) + " after")); len(found) == 0 || !strings.HasPrefix(found[0], "password, its "+half) {
				t.Errorf("%s half as %s: %v", half, name, found)
			}
		}
		if found := s.Find([]byte(encode("nothing secret, but " + other[15:30]))); len(found) > 0 && name != "raw" {
			t.Errorf("%s of what is not secret: %v", name, found)
		}
	}
	for n := range 9 {
		text := strings.Repeat("x", n) + canary + strings.Repeat("y", n%4)
		for name, made := range map[string]string{
			"base64": base64.StdEncoding.EncodeToString([]byte(text)), "%q": fmt.Sprintf("%q", text), "%x": fmt.Sprintf("%x", text),
			"%v of bytes": fmt.Sprintf("%v", []byte(text)), "%#v": fmt.Sprintf("%#v", struct{ A string }{text}),
		} {
			if len(s.Find([]byte(made))) == 0 {
				t.Errorf("%s behind %d bytes is not found", name, n)
			}
		}
	}
}
