// Package fault is the vocabulary of failure that every domain shares: what kind of failure it is,
// the stable id that clients match on, and a text that is safe to show. A transport maps a Kind to
// its status in one place; an error that is not a *fault.Error is a bug or a broken machine, and is
// shown to nobody.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the class of a failure, one to one with the gRPC status codes that Mailkeep uses.
type Kind int

// The kinds, with what a caller can do about each.
const (
	Internal           Kind = iota // nothing; the cause is in the log
	InvalidArgument                // correct the request
	NotFound                       // name something that exists
	AlreadyExists                  // choose another name or key
	PermissionDenied               // ask for a role
	Unauthenticated                // send a valid token
	FailedPrecondition             // change the state of things first
	Aborted                        // try again: somebody else changed it meanwhile
	ResourceExhausted              // send less, or less often
	Unavailable                    // try again later
	Unimplemented                  // use another method
)

// Kinds lists every kind, so that tests can walk them.
func Kinds() []Kind {
	return []Kind{
		Internal, InvalidArgument, NotFound, AlreadyExists, PermissionDenied, Unauthenticated,
		FailedPrecondition, Aborted, ResourceExhausted, Unavailable, Unimplemented,
	}
}

// Error is a failure that may be shown to the caller. Text never holds a secret or anything that
// the caller sent as one.
type Error struct {
	Kind   Kind
	ID     string // such as "QUERY-fwofw"; empty for failures without one
	Text   string
	Reason string        // for machines, such as "OUTCOME_UNKNOWN"; empty where kind and id say all
	Retry  time.Duration // when to try again; 0 if nobody knows
	cause  error
}

// New returns an Error.
func New(kind Kind, id, text string) *Error { return &Error{Kind: kind, ID: id, Text: text} }

// Newf is New with a format.
func Newf(kind Kind, id, format string, args ...any) *Error {
	return New(kind, id, fmt.Sprintf(format, args...))
}

// Because returns a copy of e that carries cause, for logs only.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// For returns a copy of e that gives machines a reason.
func (e *Error) For(reason string) *Error {
	c := *e
	c.Reason = reason
	return &c
}

// After returns a copy of e that says when to try again.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.Retry = d
	return &c
}

// Message is what callers see: the text, and the id in parentheses when there is one.
func (e *Error) Message() string {
	if e.ID == "" {
		return e.Text
	}
	return e.Text + " (" + e.ID + ")"
}

// Error implements error; unlike Message it includes the cause.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message()
	}
	return e.Message() + ": " + e.cause.Error()
}

// Is reports whether target is the same failure, whatever the cause.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && e.Kind == t.Kind && e.ID == t.ID && e.Text == t.Text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// KindOf returns the kind of the *Error in err's chain, else Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
