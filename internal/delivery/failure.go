package delivery

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/mailkeep/mailkeep/internal/egress"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// failure is what went wrong at a step, not cleaned yet.
type failure struct {
	step  emailprovider.Step
	cause error
	final bool // the cause is our own text, and no later attempt will pass
}

// Error implements error. The text has not been cleaned.
func (f *failure) Error() string { return string(f.step) + ": " + f.cause.Error() }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.cause }

// at says at which step err happened, unless it says so itself; nil stays nil.
func at(step emailprovider.Step, err error) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return &failure{step: step, cause: err}
}

// stepOf returns the step that err says it happened at, or the last one if there is none.
func stepOf(err error) emailprovider.Step {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.step
	}
	if said, ok := errors.AsType[*emailprovider.DeliveryError](err); ok {
		return said.Step
	}
	return emailprovider.StepData
}

// refused is a failure of ours that no later attempt will pass.
func refused(step emailprovider.Step, text string) error {
	return &failure{step, errors.New(text), true}
}

// explain makes a failure one that can be shown. What a server said is without what it repeats of the
// mail that the redactor is about.
func explain(ctx context.Context, err error, clean *redactor) *emailprovider.DeliveryError {
	if said, ok := errors.AsType[*emailprovider.DeliveryError](err); ok {
		shown := *said
		shown.Text = clean.show(said.Text)
		return &shown
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{step: emailprovider.StepData, cause: err}
	}
	e := &emailprovider.DeliveryError{Step: f.step}
	switch r, isReply := errors.AsType[*replyError](f.cause); {
	case isReply:
		e.Code, e.Temporary, e.Text = r.code, r.code/100 == 4, clean.quote(r.text())
		return e
	case errors.Is(f.cause, egress.ErrDenied):
		e.Text = egress.ErrDenied.Error() // the errors around it name addresses
	case f.final || isRefusal(f.cause):
		e.Text = f.cause.Error()
	default:
		e.Temporary, e.Text = true, networkText(ctx, f.cause)
	}
	e.Text = clean.show(e.Text)
	return e
}

// networkText says what happened to the connection without telling of our network: Go's errors name
// the resolver and both addresses.
func networkText(ctx context.Context, err error) string {
	if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
		err = ctx.Err() // which closed the connection
	}
	lookup, isLookup := errors.AsType[*net.DNSError](err)
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), isNet && netErr.Timeout():
		return "timed out"
	case isLookup && lookup.IsNotFound:
		return "no such host"
	case isLookup:
		return "name lookup failed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection closed by the server"
	}
	return "network error"
}

// isRefusal reports whether a step failed for what the server said rather than for the network: a
// reply out of bounds, a certificate, a TLS version, an alert. All but the replies come from
// crypto/tls, which has no type for most of them.
func isRefusal(err error) bool {
	for _, bad := range []error{errLineTooLong, errReplyTooLong, errNotAReply, errOutOfStep} {
		if errors.Is(err, bad) {
			return true
		}
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.HasPrefix(err.Error(), "tls: ") {
			return true
		}
	}
	return false
}
