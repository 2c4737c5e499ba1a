// Command openapi mends the document that protoc-gen-connect-openapi has made of the descriptors, in
// place: an object may have fields that are not described (the service ignores them), a oneof may be
// unset, every operation has an error answer, a duration is written as protobuf does, and there are
// no schemas of methods that are not there because they stream.
package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: openapi FILE")
		os.Exit(2)
	}
	document, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = os.WriteFile(os.Args[1], []byte(mend(string(document))), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

var (
	closed    = regexp.MustCompile(`^ +additionalProperties: false$`)
	oneof     = regexp.MustCompile(`^( +)- oneOf:$`)
	required  = regexp.MustCompile(`^ +required:$`)
	responses = regexp.MustCompile(`^ {6}responses:$`)
	duration  = regexp.MustCompile(`^( +)format: duration$`) // which is that of ISO 8601
	sibling   = regexp.MustCompile(`^ {0,4}[^ ]`)
	streamed  = regexp.MustCompile(`^ {4}mailkeep\.v1\.Watch[A-Za-z]+(Request|Response):$`)
)

// mend works on lines, so that the rest of the document stays as it was made.
func mend(document string) string {
	var out []string
	lines := routed(strings.Split(document, "\n"))
	for i, line := range lines {
		switch {
		case closed.MatchString(line):
			continue
		case duration.MatchString(line):
			line = duration.ReplaceAllString(line, `${1}pattern: '^-?[0-9]{1,12}(\.[0-9]{1,9})?s$$'`)
		case responses.MatchString(line):
			line += "\n        default:\n          $ref: '#/components/responses/Error'"
		case oneof.MatchString(line):
			indent := len(oneof.FindStringSubmatch(line)[1])
			end, names := alternatives(lines, i+1, indent)
			lines[end-1] += unset(indent, names) // still to be reached
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// routed leaves out the schemas of methods that stream, which are named Watch and have no route.
func routed(lines []string) []string {
	inside := false
	return slices.DeleteFunc(lines, func(line string) bool {
		if sibling.MatchString(line) {
			inside = streamed.MatchString(line)
		}
		return inside
	})
}

// alternatives returns the line behind a oneOf and the names of its alternatives.
func alternatives(lines []string, from, indent int) (end int, names []string) {
	end = from
	for end < len(lines) && len(lines[end])-len(strings.TrimLeft(lines[end], " ")) > indent {
		if required.MatchString(lines[end-1]) {
			names = append(names, strings.TrimPrefix(strings.TrimSpace(lines[end]), "- "))
		}
		end++
	}
	return end, names
}

// unset is the alternative that none of the names is there.
func unset(indent int, names []string) string {
	pad := strings.Repeat(" ", indent+4)
	out := []string{"", pad + "- title: unset", pad + "  not:", pad + "    anyOf:"}
	for _, name := range slices.Compact(names) {
		out = append(out, pad+"      - required:", pad+"          - "+name)
	}
	return strings.Join(out, "\n")
}
