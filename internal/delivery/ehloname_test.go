package delivery_test

import (
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

func TestEHLOName(t *testing.T) {
	for name, want := range map[string]string{
		"mailkeep.example.com":   "mailkeep.example.com",
		"localhost":              "[127.0.0.1]",
		"relay":                  "[127.0.0.1]",
		"vm.localdomain":         "[127.0.0.1]",
		"a.b\r\nMAIL FROM:<x@y>": "[127.0.0.1]",
	} {
		h := startHostile(t, smtptest.Script{})
		o := delivery.Options{EHLOName: name, Dialer: redirect{h.Addr(), elsewhere}}
		if err := deliver(t, o, plainRoute("relay.example.com:25")); err != nil {
			t.Fatal(err)
		}
		if got := h.Lines()[0]; got != "EHLO "+want {
			t.Errorf("%q: %q", name, got)
		}
	}
	h := startHostile(t, smtptest.Script{})
	if err := deliver(t, delivery.Options{}, plainRoute(h.Addr())); err != nil {
		t.Fatal(err)
	}
	if got, _ := strings.CutPrefix(h.Lines()[0], "EHLO "); got != "[127.0.0.1]" && !delivery.ValidEHLOName(got) {
		t.Errorf("by default: %q", got)
	}
}

func TestValidEHLOName(t *testing.T) {
	for name, want := range map[string]bool{
		"a.b": true, "Mail-1.Example.COM": true, "a.b.c1": true,
		"": false, "a": false, "localhost": false, "x.localhost": false, "LOCALHOST.localdomain": false, "a..b": false,
		"a.b.": false, ".a.b": false, "-a.b": false, "a-.b": false, "a_b.c": false, "1.2.3.4": false, "a b.c": false,
		"ä.b": false, "[192.0.2.1]": false, strings.Repeat("a", 64) + ".b": false, strings.Repeat("a.", 127) + "b": false,
	} {
		if delivery.ValidEHLOName(name) != want {
			t.Errorf("%q is not %v", name, want)
		}
	}
}
