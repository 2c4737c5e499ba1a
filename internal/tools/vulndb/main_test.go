package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// TestWrite makes a database of three reports, of which one was withdrawn.
func TestWrite(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for id, text := range map[string]string{
		"GO-1": `{"id":"GO-1","affected":[{"package":{"name":"stdlib"}},{"package":{"name":"example.com/a"}},{"package":{"name":"stdlib"}}]}`,
		"GO-2": `{"id":"GO-2","affected":[{"package":{"name":"stdlib"}}]}`,
		"GO-3": `{"id":"GO-3","withdrawn":"2026-01-02T03:04:05Z","affected":[{"package":{"name":"stdlib"}}]}`,
	} {
		if err := os.WriteFile(filepath.Join(from, id+".json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	reports, err := read(from)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := write(to, reports, at); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(to, "index", "modules.json"))
	var got []indexed
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := []indexed{{"example.com/a", []vuln{{"GO-1", at}}}, {"stdlib", []vuln{{"GO-1", at}, {"GO-2", at}}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s, %v", text, err)
	}
	for id, want := range map[string]bool{"GO-1": true, "GO-2": true, "GO-3": false} {
		if _, err := os.Stat(filepath.Join(to, "ID", id+".json")); want != (err == nil) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestReadNothing wants an error, and not a check that finds nothing.
func TestReadNothing(t *testing.T) {
	if got, err := read(t.TempDir()); err == nil {
		t.Errorf("%v", got)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "GO-1.json"), []byte(`{"id":"GO-2"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := read(dir); err == nil {
		t.Errorf("%v", got)
	}
}
