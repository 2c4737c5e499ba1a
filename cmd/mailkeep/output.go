package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	zitadelv1 "github.com/mailkeep/mailkeep/gen/zitadel/v1"
)

// field is one line of an object.
type field struct{ key, value string }

// object prints an answer as key: value lines, without the empty ones, or as JSON.
func (c *client) object(answer proto.Message, fields ...field) error {
	if c.json {
		return c.printJSON(answer)
	}
	var lines strings.Builder
	for _, f := range fields {
		if f.value != "" {
			fmt.Fprintf(&lines, "%s: %s\n", f.key, printable(f.value))
		}
	}
	_, err := fmt.Fprint(c.out, lines.String())
	return err
}

// table prints an answer as aligned columns, or as JSON.
func (c *client) table(answer proto.Message, head []string, rows [][]string) error {
	if c.json {
		return c.printJSON(answer)
	}
	return c.columns(head, rows)
}

func (c *client) columns(head []string, rows [][]string) error {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, row := range rows {
		for i := range row {
			if row[i] = printable(row[i]); row[i] == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := c.out.Write(text.Bytes())
	return err
}

// printJSON prints the API's JSON, indented. protojson's own indentation differs between builds on
// purpose.
func (c *client) printJSON(answer proto.Message) error {
	compact, err := protojson.Marshal(answer)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, compact, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, escapeJSON(text.String()))
	return err
}

// printLine prints the API's JSON on one line.
func (c *client) printLine(answer proto.Message) error {
	loose, err := protojson.Marshal(answer)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Compact(&text, loose); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, escapeJSON(text.String()))
	return err
}

// escapeJSON escapes what a terminal would act on instead of showing it. JSON has such characters in
// strings only.
func escapeJSON(text string) string {
	var out strings.Builder
	for _, r := range text {
		if r < utf8.RuneSelf || unicode.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	return out.String()
}

// change is the answer of a method that changes a provider.
type change interface {
	proto.Message
	GetDetails() *zitadelv1.ObjectDetails
}

// changed prints what a change of a provider was answered with.
func (c *client) changed(id string, answer change, more ...field) error {
	details := answer.GetDetails()
	return c.object(answer, append([]field{
		{"id", id},
		{"sequence", fmt.Sprint(details.GetSequence())},
		{"changed", local(details.GetChangeDate())},
	}, more...)...)
}

// local returns a time in RFC 3339 in the time zone of the machine; empty for none.
func local(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format(time.RFC3339)
}
