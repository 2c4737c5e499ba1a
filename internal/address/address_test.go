package address_test

import (
	"net/mail"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/address"
)

var good = []string{
	"a@b.c", "sender@example.com", "first.last+tag@sub.example.com", "o'hara@example.com",
	"root@localhost", "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "用户@例子.广告", "é@example.com",
	strings.Repeat("a", 64) + "@example.com",
}

var bad = []string{
	"", "@", "a", "a@", "@b.c", "a b@c.d", "a@b c", "a@b..c", "a..b@c.d", ".a@b.c", "a.@b.c", "a@.b", "a@b.",
	"Name <a@b.c>", "<a@b.c>", "a@b.c, d@e.f", "a@b.c,d@e.f", "a@b.c;d@e.f", "a@b.c (comment)", "(c)a@b.c",
	`"a b"@c.d`, `"a@b.c> NOTIFY=NEVER"@d.e`, `"<"@d.e`, `"a"@b.c`, "a\\@b.c",
	"a@b.c\r\nBcc: d@e.f", "a\r\n@b.c", "a@b.c\n", "a\x00@b.c", "a@b\x00.c", "a\t@b.c", "a@b.c> SIZE=1", "a@-b.c", "a@b-.c",
	"a@[300.0.0.1]", "a@[192.0.2.1", "a@[]", "a@[::1]", "a@[IPv6:fe80::1%eth0]", "a@b@c.d ", "a\u2028@b.c", "a\u202e@b.c", "a\xff@b.c",
	strings.Repeat("a", 65) + "@example.com", "a@" + strings.Repeat("b.", 130) + "c", strings.Repeat("(x)", 70000) + "a@b.c",
}

func TestCheck(t *testing.T) {
	for _, s := range good {
		if err := address.Check(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range bad {
		if err := address.Check(s); err == nil {
			t.Errorf("%.60q is accepted", s)
		}
	}
}

// FuzzCheck holds every accepted address to what makes it safe in an SMTP command and a header.
func FuzzCheck(f *testing.F) {
	for _, s := range append(good, bad...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if address.Check(s) != nil {
			return
		}
		if strings.ContainsAny(s, " \t\r\n\x00<>,;\"\\()") || strings.Count(s, "@") != 1 || len(s) > 254 {
			t.Fatalf("%q is accepted", s)
		}
		if ascii := !strings.ContainsFunc(s, func(r rune) bool { return r > 126 }); ascii && !strings.Contains(s, "[") {
			if a, err := mail.ParseAddress(s); err != nil || a.Address != s {
				t.Fatalf("%q reads back as %v, %v", s, a, err)
			}
		}
	})
}
