package rpc

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

// TestTooManyValues has messages of many empty parts: small on the wire, large in memory.
func TestTooManyValues(t *testing.T) {
	for name, c := range map[string]struct {
		json bool
		body string
		want bool
	}{
		"binary":                {false, strings.Repeat("\x42\x00", maxValues+1), true},
		"binary, just so many":  {false, strings.Repeat("\x42\x00", maxValues), false},
		"JSON":                  {true, `{"headers":[` + strings.Repeat("{},", maxValues) + `{}]}`, true},
		"JSON, fewer":           {true, `{"headers":[` + strings.Repeat("{},", maxValues/2-2) + `{}]}`, false},
		"JSON, commas in texts": {true, `{"text":"` + strings.Repeat(`,{\"[`, maxValues) + `"}`, false},
	} {
		m := new(mailkeepv1.SendMessageRequest)
		var err error
		if c.json {
			err = NewJSONCodec().UnmarshalRead(t.Context(), strings.NewReader(c.body), m)
		} else {
			err = NewBinaryCodec().UnmarshalRead(t.Context(), bytes.NewReader([]byte(c.body)), m)
		}
		if got := errors.Is(err, errTooManyValues); got != c.want || !c.want && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
