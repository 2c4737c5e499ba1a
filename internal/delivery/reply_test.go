package delivery

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/secret"
)

// FuzzReadReply: whatever a server sends, a reply is within bounds and says what was sent; what is wrong
// with another one is told in our own words, and a secret that comes back is not shown.
func FuzzReadReply(f *testing.F) {
	for _, s := range []string{
		"220 ready\r\n", "250-one\r\n250 two\r\n", "250-one\r\n251 two\r\n", "535 no", "999 x\r\n", "25\r\n", "250\n", "\r\n", "250-\r\n250\r\n", "550 \x00\xff\r\r\n",
	} {
		f.Add(s, "", uint16(0), "hunter22")
	}
	f.Add("421 ", "x", uint16(maxReplyLine), "hunter22")
	f.Add("250-a\r\n", "250-"+strings.Repeat("y", 28)+"\r\n", uint16(maxReply/32), "hunter22")
	f.Fuzz(func(t *testing.T, sent, again string, times uint16, known string) {
		sent += strings.Repeat(again, min(int(times), 2*maxReply/max(1, len(again))))
		clean := newRedactor(secret.New(known))
		for _, text := range []string{sent, "535 " + sent + known + "\r\n"} {
			r, err := readReply(newReplyReader(strings.NewReader(text)))
			if err == nil {
				checkReply(t, r, text)
				err = r.must(nil, 0)
			} else if !errors.Is(err, errLineTooLong) && !errors.Is(err, errReplyTooLong) && !errors.Is(err, errNotAReply) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q: %v", text, err)
			}
			shown := explain(t.Context(), err, clean).Text
			if len(shown) > maxShown || strings.ContainsFunc(shown, isControl) {
				t.Errorf("%q is shown as %q", text, shown)
			}
			// One that is short, or in our own words anyway, tells nothing.
			if len(known) >= gram && strings.Contains(shown, known) && !strings.Contains(explain(t.Context(), err, newRedactor(secret.New("nothing"))).Text+redacted, known) {
				t.Errorf("%q is in %q", known, shown)
			}
		}
	})
}

// checkReply wants the lines of the reply to be what was sent first.
func checkReply(t *testing.T, r reply, sent string) {
	t.Helper()
	if r.code < 200 || r.code > 599 || len(r.lines) == 0 || len(r.text()) > maxReply {
		t.Fatalf("%q: code %d, %d lines", sent, r.code, len(r.lines))
	}
	for i, got := range r.lines {
		line, rest, ended := strings.Cut(sent, "\n")
		line = strings.TrimRight(line, "\r")
		if !ended || !strings.HasSuffix(line, got) || len(line) > 3 && len(line) != len(got)+4 || (len(line) > 3 && line[3] == '-') != (i < len(r.lines)-1) {
			t.Fatalf("line %d is %q, of %q", i, got, line)
		}
		sent = rest
	}
}
