package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// Names of the steps that a watch sees, as in emailprovider.StepReport.
const (
	seenDNS       = "dns"
	seenTCP       = "tcp"
	seenTLS       = "tls"
	seenGreeting  = "greeting"
	seenEHLO      = "ehlo"
	seenStartTLS  = "starttls"
	seenToken     = "token"
	seenAuth      = "auth"
	seenFrom      = "from"
	seenRecipient = "recipient"
	seenReset     = "rset"
)

// watch sees the steps of a session. It travels in the context, so that a session goes the same way
// whether somebody looks or not: a nil *watch takes every call and does nothing.
type watch struct {
	clean    *redactor
	progress func(emailprovider.StepReport) // may be nil

	mu     sync.Mutex // the hooks of a dialer may come from anywhere
	began  time.Time
	step   emailprovider.StepReport // under way
	report emailprovider.Report     // of the steps before
}

type watchKey struct{}

// watching returns the watch of a context, or nil.
func watching(ctx context.Context) *watch {
	w, _ := ctx.Value(watchKey{}).(*watch)
	return w
}

// begin begins a step; the returned function ends it.
func (w *watch) begin(ctx context.Context, name string) (ended func(*error)) {
	if w == nil {
		return func(*error) {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(name)
	return func(err *error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.end(ctx, *err)
	}
}

// dial begins the two steps of opening a connection. The first ends when package net has looked the
// name up, which it tells by the hooks in the returned context.
func (w *watch) dial(ctx context.Context, address string) (hooked context.Context, ended func(*error)) {
	if w == nil {
		return ctx, func(*error) {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start(seenDNS)
	lookedUp := func() {
		if w.step.Name == seenDNS {
			w.end(ctx, nil)
			w.start(seenTCP)
		}
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		if _, err := netip.ParseAddr(host); err == nil {
			w.step.Text = "an address, no lookup"
			lookedUp()
		}
	}
	hooks := &httptrace.ClientTrace{DNSDone: func(found httptrace.DNSDoneInfo) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if found.Err == nil {
			lookedUp()
		}
	}}
	return httptrace.WithClientTrace(ctx, hooks), func(err *error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, failed := errors.AsType[*net.DNSError](*err); !failed {
			lookedUp() // by a dialer in a way of its own
		}
		w.end(ctx, *err)
	}
}

// start and end are called with the lock held.
func (w *watch) start(name string) {
	w.began, w.step = time.Now(), emailprovider.StepReport{Name: name}
}

func (w *watch) end(ctx context.Context, err error) {
	step := w.step
	step.Took = max(time.Since(w.began), 1)
	if step.Passed = err == nil; err != nil {
		w.report.Failed = explain(ctx, err, w.clean)
		step.Code, step.Text = w.report.Failed.Code, w.report.Failed.Text
		if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && step.TLS != nil {
			step.TLS.Chain = w.chain(bad.UnverifiedCertificates)
		}
	}
	w.report.Steps = append(w.report.Steps, step)
	w.start("")
	if w.progress != nil {
		w.progress(step)
	}
}

// finish returns the report of a session that ended with err. What failed between two steps is the
// last one.
func (w *watch) finish(ctx context.Context, err error) emailprovider.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.report.Failed == nil {
		name := string(explain(ctx, err, w.clean).Step)
		if name == string(emailprovider.StepDial) {
			name = seenDNS
		}
		w.start(name)
		w.end(ctx, err)
	}
	return w.report
}

// goOn forgets that a step has failed, when the session goes on in another way.
func (w *watch) goOn() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report.Failed = nil
}

// note adds to the step under way.
func (w *watch) note(add func(*emailprovider.StepReport)) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	add(&w.step)
}
