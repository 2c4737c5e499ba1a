package main

import (
	"fmt"

	"github.com/mailkeep/mailkeep/internal/app"
	"github.com/mailkeep/mailkeep/internal/limit"
)

// limitFlags are the bounds of what instances, addresses and everybody may take of the service.
type limitFlags struct {
	CallsPerSecond        int `default:"1000" env:"MAILKEEP_CALLS_PER_SECOND" help:"Calls that an instance may make in a second, twice that after a pause; more get 429. 0 is no bound, here and below (${default})."`
	MaxOpenMails          int `default:"100000" env:"MAILKEEP_MAX_OPEN_MAILS" help:"Mails of an instance that may be on their way at a time (${default})."`
	MaxProviders          int `default:"1000" env:"MAILKEEP_MAX_PROVIDERS" help:"Providers that an instance may have (${default})."`
	MaxTokens             int `default:"1000" env:"MAILKEEP_MAX_TOKENS" help:"Tokens that an instance may have (${default})."`
	MaxInstanceStreams    int `default:"100" env:"MAILKEEP_MAX_INSTANCE_STREAMS" help:"Streams, such as message watch, that an instance may have at a time (${default})."`
	MaxStreams            int `default:"1000" env:"MAILKEEP_MAX_STREAMS" help:"Streams that all instances may have at a time (${default})."`
	MaxCallsInFlight      int `default:"256" env:"MAILKEEP_MAX_CALLS_IN_FLIGHT" help:"Calls that may be under way at a time; four times as many wait for a second at most, by turns of their instances, and more get 503. No instance gets more than four fifths (${default})."`
	MaxFailuresPerSecond  int `default:"20" env:"MAILKEEP_MAX_FAILURES_PER_SECOND" help:"Calls without a valid token that an address may make in a second; then only tokens that were valid before are looked at (${default})."`
	MaxConnections        int `default:"4096" env:"MAILKEEP_MAX_CONNECTIONS" help:"Connections that may be open at a time; more are closed (${default})."`
	MaxAddressConnections int `default:"1024" env:"MAILKEEP_MAX_ADDRESS_CONNECTIONS" help:"Connections of one address that may be open at a time (${default})."`
}

const (
	// maxBound is more than any bound is good for.
	maxBound = 1_000_000_000
	// leastShared is the least of what is shared that leaves some to others.
	leastShared = 8
)

// check refuses bounds that mean nothing.
func (f *limitFlags) check() error {
	for _, bound := range []struct {
		flag         string
		value, least int
	}{
		{"--calls-per-second", f.CallsPerSecond, 1}, {"--max-open-mails", f.MaxOpenMails, 1}, {"--max-providers", f.MaxProviders, 1},
		{"--max-tokens", f.MaxTokens, 1}, {"--max-instance-streams", f.MaxInstanceStreams, 1}, {"--max-streams", f.MaxStreams, leastShared},
		{"--max-calls-in-flight", f.MaxCallsInFlight, leastShared}, {"--max-failures-per-second", f.MaxFailuresPerSecond, 1},
		{"--max-connections", f.MaxConnections, leastShared}, {"--max-address-connections", f.MaxAddressConnections, 1},
	} {
		if bound.value != 0 && (bound.value < bound.least || bound.value > maxBound) {
			return fmt.Errorf("%s must be from %d to %d, or 0 for no bound", bound.flag, bound.least, maxBound)
		}
	}
	return nil
}

// set puts the bounds into a Config.
func (f *limitFlags) set(c *app.Config) {
	c.Limits = limit.Limits{
		CallsPerSecond: f.CallsPerSecond, Streams: f.MaxInstanceStreams, OpenMails: f.MaxOpenMails,
		Providers: f.MaxProviders, Tokens: f.MaxTokens,
	}
	c.MaxInFlight, c.MaxStreams, c.MaxFailures = f.MaxCallsInFlight, f.MaxStreams, f.MaxFailuresPerSecond
	c.MaxConnections, c.MaxByAddress = f.MaxConnections, f.MaxAddressConnections
}
