package main

import "testing"

func TestVerdict(t *testing.T) {
	tests := []struct {
		name   string
		report string
		pass   bool
	}{
		{"all passed", "Total cases: 3640\n3640 passed, 0 failed\n", true},
		{"all passed, after other output", "INFO: hello\nTotal cases: 3640\n3640 passed, 0 failed", true},
		{"one failed", "FAILED: a/b:\n\tno trailers\n\nTotal cases: 3640\n3639 passed, 1 failed\n", false},
		{"fewer selected", "Total cases: 3100\n3100 passed, 0 failed\n", false},
		{"more selected", "Total cases: 3641\n3641 passed, 0 failed\n", false},
		{"known failure", "Total cases: 3640\n3639 passed, 0 failed\n(Another 1 failed as expected due to being known failures/flakes.)\n", false},
		{"not run", "Total cases: 3640\n3640 passed, 0 failed\nAnother 12 could not be run due to client timing out or exiting prematurely.\n", false},
		{"empty", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := verdict(test.report); (err == nil) != test.pass {
				t.Errorf("verdict = %v, want pass %t", err, test.pass)
			}
		})
	}
}
