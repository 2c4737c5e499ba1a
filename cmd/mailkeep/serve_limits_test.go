package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/mailkeep/mailkeep/internal/app"
)

// TestLimitFlags: every bound has a default that is one, 0 lifts it, and what means nothing is refused by name.
func TestLimitFlags(t *testing.T) {
	var c commands
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	defaults := c.Serve.Limits
	if err := defaults.check(); err != nil {
		t.Error(err)
	}
	var config app.Config
	defaults.set(&config)
	l := config.Limits
	for i, n := range []int{
		l.CallsPerSecond, l.Streams, l.OpenMails, l.Providers, l.Tokens, config.MaxInFlight, config.MaxStreams,
		config.MaxFailures, config.MaxConnections, config.MaxByAddress,
	} {
		if n <= 0 {
			t.Errorf("bound %d has no default", i)
		}
	}
	if err := (&limitFlags{}).check(); err != nil {
		t.Errorf("without any bound: %v", err)
	}
	for flag, f := range map[string]limitFlags{
		"--calls-per-second": {CallsPerSecond: -1}, "--max-open-mails": {MaxOpenMails: -1}, "--max-providers": {MaxProviders: maxBound + 1},
		"--max-tokens": {MaxTokens: -1}, "--max-instance-streams": {MaxInstanceStreams: -1}, "--max-streams": {MaxStreams: 7},
		"--max-calls-in-flight": {MaxCallsInFlight: 1}, "--max-failures-per-second": {MaxFailuresPerSecond: -1},
		"--max-connections": {MaxConnections: 1}, "--max-address-connections": {MaxAddressConnections: -1},
	} {
		if err := f.check(); err == nil || !strings.HasPrefix(err.Error(), flag+" must be from ") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
