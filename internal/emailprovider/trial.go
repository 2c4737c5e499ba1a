package emailprovider

import (
	"context"

	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// VerifyMode says what it means for a new password that the mail server does not accept it.
type VerifyMode string

// The modes. A command takes any other as VerifyEnforce.
const (
	VerifyOff     VerifyMode = "off"     // the server is not asked
	VerifyWarn    VerifyMode = "warn"    // the password is stored, with what the server said
	VerifyEnforce VerifyMode = "enforce" // the password is not stored
)

// trials bounds how often one command asks the server, each time because the provider's settings
// were changed while it answered.
const trials = 3

// VerificationError is a password that was not stored because it could not be verified. It unwraps
// to the *fault.Error for the caller, under the id of the step that failed.
type VerificationError struct {
	Report Report
	fault  *fault.Error
}

// Error implements error.
func (e *VerificationError) Error() string { return e.fault.Error() }

// Unwrap returns the *fault.Error.
func (e *VerificationError) Unwrap() error { return e.fault }

// trial shows the candidates of one command to the mail server before one is stored.
type trial struct {
	mailer   Mailer
	mode     VerifyMode
	progress func(StepReport)
	refusal  string // what becomes of a password that fails

	asked  int
	last   Route // that the server was asked about
	report Report
}

// pass returns nil if p may be stored with the password. The server is asked unless it was just
// asked about the same.
func (t *trial) pass(ctx context.Context, p Provider, plain secret.Text) error {
	if t.mode == VerifyOff {
		return nil
	}
	via := Route{Instance: p.Instance, Description: p.Description, SMTP: p.SMTP, CA: p.CA, Secret: plain}
	if t.asked == 0 || !sameLogin(t.last, via) {
		if err := t.ask(ctx, via); err != nil {
			return err
		}
	}
	if t.report.Passed() || t.mode == VerifyWarn {
		return nil
	}
	return &VerificationError{t.report, t.report.Failed.fault(via, t.refusal+": verification")}
}

func (t *trial) ask(ctx context.Context, via Route) error {
	if t.asked == trials {
		return errBusy
	}
	t.asked++
	t.last, t.report = via, t.mailer.Verify(ctx, via, "", t.progress)
	return ctx.Err() // the server was not heard out
}

// sameLogin reports whether logging in with a shows what logging in with b would.
func sameLogin(a, b Route) bool {
	return a.SMTP.Host == b.SMTP.Host && a.SMTP.TLS == b.SMTP.TLS && a.SMTP.User == b.SMTP.User &&
		a.SMTP.Auth == b.SMTP.Auth && a.CA == b.CA && a.Secret.Reveal() == b.Secret.Reveal()
}
