package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/secret"
)

func TestTextNeverShowsItself(t *testing.T) {
	const canary = "c4n4ry-pass"
	type holder struct {
		Exported   secret.Text
		unexported secret.Text
		Pointer    *secret.Text
	}
	s := secret.New(canary)
	h := holder{s, s, &s}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, h)
		fmt.Fprintf(&out, verb, []any{s, h, map[string]secret.Text{"k": s}})
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("m", "s", s, "h", h, "p", &h)
	}
	for _, v := range []any{s, h, &h} {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(j)
	}
	type document struct{ S secret.Text }
	x, err := xml.Marshal(document{s})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(x)
	fmt.Fprint(&out, fmt.Errorf("failed with %v: %w", s, fmt.Errorf("%s", h.unexported)))

	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q shows in:\n%s", form, out.String())
		}
	}
	if got := s.Reveal(); got != canary {
		t.Errorf("Reveal() = %q", got)
	}
}

func TestEmpty(t *testing.T) {
	if !secret.New("").Empty() || !(secret.Text{}).Empty() || secret.New("x").Empty() {
		t.Error("Empty is wrong")
	}
	if (secret.Text{}).Reveal() != "" {
		t.Error("the zero value reveals something")
	}
}
