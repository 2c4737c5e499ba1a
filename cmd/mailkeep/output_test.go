package main

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	adminv1 "github.com/mailkeep/mailkeep/gen/zitadel/admin/v1"
	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
)

func TestOutput(t *testing.T) {
	answer := &adminv1.AddEmailProviderSMTPResponse{Id: "7", Details: &zitadelv1.ObjectDetails{Sequence: 3}}
	for _, test := range []struct {
		name  string
		json  bool
		print func(*client) error
		want  string
	}{
		{"columns are aligned", false, func(c *client) error {
			return c.table(answer, []string{"ID", "NAME", "X"}, [][]string{{"1", "long name", ""}, {"1234", "ü", "x"}})
		}, "ID    NAME       X\n1     long name  -\n1234  ü          x\n"},
		{"a cell can't break the table or drive the terminal", false, func(c *client) error {
			return c.table(answer, []string{"A", "B"}, [][]string{{"a\nb\tc", "\x1b[2J\u202e😀"}})
		}, "A        B\na\\nb\\tc  \\x1b[2J\\u202e😀\n"},
		{"a line can't either, and empty ones are left out", false, func(c *client) error {
			return c.object(answer, field{"a", "x\ny: z"}, field{"b", ""})
		}, "a: x\\ny: z\n"},
		{"a table in JSON", true, func(c *client) error { return c.table(answer, nil, nil) },
			"{\n  \"details\": {\n    \"sequence\": \"3\"\n  },\n  \"id\": \"7\"\n}\n"},
		{"a change in JSON", true, func(c *client) error { return c.changed("7", answer) },
			"{\n  \"details\": {\n    \"sequence\": \"3\"\n  },\n  \"id\": \"7\"\n}\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := test.print(&client{streams: streams{out: &out}, json: test.json}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
