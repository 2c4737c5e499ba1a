// Command vulndb makes a database of known vulnerabilities that govulncheck reads from a folder. The
// reports come from the module golang.org/x/vulndb, so that a module proxy is all it takes; vuln.go.dev,
// which publishes the same reports, is not asked. The last line that it prints says how old they are.
//
//	vulndb FOLDER
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const source = "golang.org/x/vulndb"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: vulndb FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "vulndb:", err)
		os.Exit(1)
	}
}

func run(to string) error {
	m, err := download()
	if err != nil {
		return err
	}
	reports, err := read(filepath.Join(m.Dir, "data", "osv"))
	if err != nil {
		return err
	}
	if err := write(to, reports, m.Time); err != nil {
		return err
	}
	fmt.Printf("%d reports, the newest of %s (%s@%s)\n", len(reports), m.Time.Format(time.DateOnly), source, m.Version)
	return nil
}

// reportsModule is the module with the reports, unpacked.
type reportsModule struct {
	Version, Dir, Info string
	Error              string
	Time               time.Time `json:"-"` // of the version
}

// download gets the newest version from the module proxy. It is no dependency of ours: no go.mod names it.
func download() (m reportsModule, err error) {
	cmd := exec.Command("go", "mod", "download", "-json", source+"@latest")
	cmd.Dir = os.TempDir()
	out, failed := cmd.Output() // says in the JSON what is wrong
	if err := json.Unmarshal(out, &m); err != nil {
		return m, errors.Join(fmt.Errorf("go mod download: %w", err), failed)
	}
	if m.Error != "" || failed != nil {
		return m, errors.Join(fmt.Errorf("go mod download %s: %s", source, m.Error), failed)
	}
	info, err := os.ReadFile(m.Info)
	if err != nil {
		return m, err
	}
	var version struct{ Time time.Time }
	err = json.Unmarshal(info, &version)
	m.Time = version.Time
	return m, err
}

// report is what of a report the index needs (https://ossf.github.io/osv-schema).
type report struct {
	ID        string
	Withdrawn time.Time
	Affected  []struct {
		Package struct{ Name string }
	}
	text []byte
}

// read returns the reports in a folder that were not withdrawn.
func read(folder string) (reports []report, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "GO-*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		r := report{text: text}
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		if r.ID != strings.TrimSuffix(filepath.Base(file), ".json") {
			return nil, fmt.Errorf("%s is about %q", filepath.Base(file), r.ID)
		}
		if r.Withdrawn.IsZero() {
			reports = append(reports, r)
		}
	}
	if len(reports) == 0 { // else a check would find nothing and be content
		return nil, fmt.Errorf("no reports in %s", folder)
	}
	return reports, nil
}

// indexed is a module as index/modules.json has it (https://go.dev/doc/security/vuln/database).
type indexed struct {
	Path  string `json:"path"`
	Vulns []vuln `json:"vulns"`
}

type vuln struct {
	ID       string    `json:"id"`
	Modified time.Time `json:"modified"`
}

// index returns the modules by path, each with its reports. The reports in the module don't say when they
// were changed: all count as changed at its time.
func index(reports []report, modified time.Time) []indexed {
	byPath := map[string][]vuln{}
	for _, r := range reports {
		for _, a := range r.Affected {
			v := vuln{r.ID, modified}
			if !slices.Contains(byPath[a.Package.Name], v) {
				byPath[a.Package.Name] = append(byPath[a.Package.Name], v)
			}
		}
	}
	modules := make([]indexed, 0, len(byPath))
	for path, vulns := range byPath {
		modules = append(modules, indexed{path, vulns})
	}
	slices.SortFunc(modules, func(a, b indexed) int { return strings.Compare(a.Path, b.Path) })
	return modules
}

// write writes the database.
func write(to string, reports []report, modified time.Time) error {
	for _, folder := range []string{"index", "ID"} {
		if err := os.MkdirAll(filepath.Join(to, folder), 0o755); err != nil {
			return err
		}
	}
	for _, r := range reports {
		if err := os.WriteFile(filepath.Join(to, "ID", r.ID+".json"), r.text, 0o644); err != nil {
			return err
		}
	}
	return errors.Join(
		writeJSON(filepath.Join(to, "index", "db.json"), map[string]time.Time{"modified": modified}),
		writeJSON(filepath.Join(to, "index", "modules.json"), index(reports, modified)),
	)
}

func writeJSON(file string, content any) error {
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
