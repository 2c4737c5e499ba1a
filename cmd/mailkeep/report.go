package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/types/known/timestamppb"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

// printSteps prints a line for each step.
func (c *client) printSteps(steps ...*mailkeepv1.VerificationStep) error {
	for _, s := range steps {
		if _, err := fmt.Fprintln(c.out, stepLine(s)); err != nil {
			return err
		}
	}
	return nil
}

func stepLine(s *mailkeepv1.VerificationStep) string {
	verdict := "ok"
	if !s.GetPassed() {
		verdict = "FAILED"
	}
	line := fmt.Sprintf("%-6s  %-9s  %8s  %s", verdict, s.GetStep(), milliseconds(s.GetDuration().AsDuration()), found(s))
	return printable(strings.TrimRight(line, " "))
}

// found is what a step has found, in words.
func found(s *mailkeepv1.VerificationStep) string {
	var parts []string
	add := func(format string, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf(format, value))
		}
	}
	add("%s", strings.TrimSpace(number(s.GetCode())+" "+s.GetText()))
	add("with %s", s.GetMechanism())
	add("%s", s.GetTls().GetVersion())
	if chain := s.GetTls().GetChain(); len(chain) > 0 && s.GetPassed() {
		add("certificate valid until %s", date(chain[0].GetExpirationDate()))
	} else if len(chain) > 0 { // what is wrong with it may be any of these
		add("the certificate is for %s", chain[0].GetSubject())
		add("by %s", chain[0].GetIssuer())
		add("until %s", date(chain[0].GetExpirationDate()))
	}
	var offers []string
	for _, capability := range s.GetCapabilities() {
		if !strings.HasPrefix(capability, "AUTH ") { // the mechanisms say it
			offers = append(offers, capability)
		}
	}
	if len(s.GetMechanisms()) > 0 {
		offers = append(offers, "AUTH "+strings.Join(s.GetMechanisms(), " "))
	}
	add("offers %s", strings.Join(offers, ", "))
	return strings.Join(parts, ", ")
}

func date(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format(time.DateOnly)
}

// failureOf is the error for a verification that has not passed; nil for one that has.
func failureOf(report *mailkeepv1.VerificationReport) error {
	if report.GetPassed() {
		return nil
	}
	for _, s := range report.GetSteps() {
		if !s.GetPassed() {
			return fmt.Errorf("the verification failed at step %s: %s", s.GetStep(), found(s))
		}
	}
	return errors.New("the verification failed")
}

// reportOf returns the report that a refusal carries; nil if it carries none.
func reportOf(err error) *mailkeepv1.VerificationReport {
	refusal, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return nil
	}
	for _, detail := range refusal.Details() {
		message, err := connectproto.UnmarshalErrorDetail(detail)
		if report, ok := message.(*mailkeepv1.VerificationReport); err == nil && ok {
			return report
		}
	}
	return nil
}
