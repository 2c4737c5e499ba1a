package outbox

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

func contents() []Content {
	return []Content{
		{},
		{MessageID: "a@b", Lifetime: time.Hour, ReplyTo: "r@example.com", Subject: "Grüße", Text: "t\r\n", HTML: "<p>\x01"},
		{
			Text: strings.Repeat("x", 300), Headers: []emailprovider.Header{{Name: "X-A", Value: "b"}},
			Attachments: []emailprovider.Attachment{
				{Name: "a", ContentType: "text/plain", Data: []byte("\xff\x00")}, {Name: "empty"}, {Name: "b", Data: bytes.Repeat([]byte("y"), 1<<20)},
			},
		},
	}
}

func TestContentEncoding(t *testing.T) {
	for i, c := range contents() {
		encoded, err := encodeContent(c)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := decodeContent(encoded)
		if diff := cmp.Diff(c, got, cmpopts.EquateEmpty()); diff != "" || !ok {
			t.Errorf("content %d (-want +got), %t:\n%.500s", i, ok, diff)
		}
		for n := range min(len(encoded), 1000) {
			if _, ok := decodeContent(encoded[:n]); ok {
				t.Errorf("content %d is decoded from its first %d bytes", i, n)
			}
		}
		if _, ok := decodeContent(append(encoded, 0)); ok {
			t.Errorf("content %d is decoded with a byte more", i)
		}
	}
}

func FuzzDecodeContent(f *testing.F) {
	for _, c := range contents() {
		if encoded, err := encodeContent(c); err == nil {
			f.Add(encoded)
		}
	}
	f.Add([]byte{contentVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, in []byte) {
		if c, ok := decodeContent(in); ok {
			if _, err := encodeContent(c); err != nil {
				t.Error(err)
			}
		}
	})
}
