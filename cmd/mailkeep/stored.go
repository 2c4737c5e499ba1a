package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"connectrpc.com/connect/v2"

	mailkeepv1 "github.com/mailkeep/mailkeep/gen/mailkeep/v1"
)

// newCredential is the answer to a rotation or a rollback.
type newCredential interface {
	GetCredentialVersion() uint64
	GetReport() *mailkeepv1.VerificationReport
}

// stored prints that a password is in use.
func (c *client) stored(answer newCredential) error {
	doubt := ""
	if answer.GetReport() != nil && !answer.GetReport().GetPassed() {
		doubt = " although the verification failed"
	}
	_, err := fmt.Fprintf(c.out, "stored as credential version %d%s; the next mail uses it\n", answer.GetCredentialVersion(), doubt)
	return err
}

// notStored explains why a password is not stored, or that this is not known, after those steps of
// the report that were not shown yet.
func (c *client) notStored(id string, shown int, err error) error {
	report := reportOf(err)
	if steps := report.GetSteps(); !c.json && shown < len(steps) {
		if err := c.printSteps(steps[shown:]...); err != nil {
			return err
		}
	}
	if report != nil || nothingChanged(err) {
		return fmt.Errorf("not stored: %s", explain(err))
	}
	return fmt.Errorf("%s; it is not known whether the password is stored: `mailkeep provider status %s` shows the version in use",
		explain(err), id)
}

// nothingChanged reports whether a call that failed has changed nothing for sure: the service has
// refused it, or was not reached.
func nothingChanged(err error) bool {
	if failure, ok := errors.AsType[*net.OpError](err); ok && failure.Op == "dial" && !errors.Is(err, context.Canceled) {
		return true
	}
	refusal, ok := errors.AsType[*connect.Error](err)
	if !ok || !refusal.IsRemote() {
		return false
	}
	switch refusal.Code() {
	case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeAlreadyExists, connect.CodePermissionDenied,
		connect.CodeUnauthenticated, connect.CodeFailedPrecondition, connect.CodeAborted, connect.CodeResourceExhausted,
		connect.CodeUnimplemented:
		return true
	}
	return false
}
