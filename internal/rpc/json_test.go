package rpc

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
)

// TestCompact has texts as protojson may write them, with a space after a comma or a colon.
func TestCompact(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `{"a": "b", "c": [1, 2, {"d": null}]}`, `{"a b": "c,  d: \"e, f\\", "g": "\\\\"}`, `{"a":" ä  \u00e4 ", "b": ""}`,
	} {
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := string(compact([]byte(text))); got != want.String() {
			t.Errorf("%s became %s, not %s", text, got, want.String())
		}
	}
}

// TestMarshalWrite appends to what a buffer has, whether there is room in it or not.
func TestMarshalWrite(t *testing.T) {
	message := &adminv1.UpdateEmailProviderSMTPPasswordRequest{Id: "1, 2", Password: strings.Repeat(`"x: y" `, 20)}
	want := `before{"password":"` + strings.Repeat(`\"x: y\" `, 20) + `","id":"1, 2"}`
	for _, room := range []int{0, 64, 1024} {
		dst := bytes.NewBuffer(make([]byte, 0, room))
		dst.WriteString("before")
		if err := NewJSONCodec().MarshalWrite(t.Context(), dst, message); err != nil || dst.String() != want {
			t.Errorf("into %d bytes: %s, %v", room, dst, err)
		}
	}
	if err := NewJSONCodec().MarshalWrite(t.Context(), new(bytes.Buffer), "text"); err == nil {
		t.Error("what is no message was written")
	}
}
