package main

import (
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestSettings holds the table in README.md of settings to the flags of serve, both ways.
func TestSettings(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| `--") {
			rows = append(rows, line)
		}
	}
	parser, err := kong.New(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	documented := 0
	for _, command := range parser.Model.Children {
		if command.Name != "serve" {
			continue
		}
		for _, flag := range command.Flags {
			if flag.Name == "help" || flag.Name == "demo" {
				continue
			}
			documented++
			row := rowOf(rows, "`--"+flag.Name+"`")
			for _, want := range append(flag.Envs, flag.Default) {
				if !strings.Contains(row, want) {
					t.Errorf("--%s: no %q in its row of README.md: %q", flag.Name, want, row)
				}
			}
			if row == "" {
				t.Errorf("--%s is not in README.md", flag.Name)
			}
		}
	}
	named := 0
	for _, row := range rows {
		named += strings.Count(strings.SplitN(row, "|", 3)[1], "`--")
	}
	if documented == 0 || named != documented {
		t.Errorf("README.md has %d settings, serve has %d", named, documented)
	}
}

func rowOf(rows []string, flag string) string {
	for _, row := range rows {
		if strings.Contains(strings.SplitN(row, "|", 3)[1], flag) {
			return row
		}
	}
	return ""
}
