package main

import (
	"errors"
	"fmt"
	"regexp"
)

// cases is how many cases config.yaml selects of suite v1.0.7. A new version
// of the suite or a new feature in the configuration changes it.
const cases = 3640

var summary = regexp.MustCompile(`(?m)^Total cases: (\d+)\n(\d+) passed, (\d+) failed\n?\z`)

// verdict judges the runner's report. Its exit status is not enough: it is 0
// for a configuration that selects fewer cases, and for cases that the report
// adds below the summary as not run or as known failures.
func verdict(report string) error {
	counts := summary.FindStringSubmatch(report)
	if counts == nil {
		return errors.New("the report does not end in a summary of cases that all ran")
	}
	want := fmt.Sprint(cases)
	if counts[1] != want || counts[2] != want || counts[3] != "0" {
		return fmt.Errorf("%s cases, %s passed, %s failed; want %d, all passed", counts[1], counts[2], counts[3], cases)
	}
	return nil
}
