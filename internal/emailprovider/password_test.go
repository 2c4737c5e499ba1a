package emailprovider_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const (
	off     = emailprovider.VerifyOff
	warn    = emailprovider.VerifyWarn
	enforce = emailprovider.VerifyEnforce
)

var (
	wrong = &emailprovider.DeliveryError{Step: emailprovider.StepAuth, Code: 535, Text: "5.7.8 no"}
	busy  = &emailprovider.DeliveryError{Step: emailprovider.StepEHLO, Code: 421, Text: "4.3.2 busy", Temporary: true}
	none  = emailprovider.AuthSettings{Choice: emailprovider.ChooseNone}
)

// says returns a server that answers every login the same; nil accepts it.
func says(failed *emailprovider.DeliveryError) func(emailprovider.Route, string) *emailprovider.DeliveryError {
	return func(emailprovider.Route, string) *emailprovider.DeliveryError { return failed }
}

func rotation(p string, mode emailprovider.VerifyMode) emailprovider.Rotation {
	return emailprovider.Rotation{Password: secret.New(p), Verify: mode}
}

func withUser(user string, in emailprovider.Rotation) emailprovider.Rotation {
	in.User = &user
	return in
}

// stored returns a provider as it is in the store.
func (w *world) stored(id string) emailprovider.Provider {
	w.t.Helper()
	p, err := w.Get(w.t.Context(), instance.Default, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// logs makes the service log to the buffer, everything.
func (w *world) logs() *bytes.Buffer {
	var b bytes.Buffer
	w.Service.Log = slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return &b
}

// TestRotatePassword is every mode on every kind of provider, with what the server says of it.
func TestRotatePassword(t *testing.T) {
	noUser := smtp(password("old c4n4ry"))
	noUser.User = ""
	const changed = "provider.password_changed"
	for _, c := range []struct {
		name   string
		from   emailprovider.SMTPSettings
		in     emailprovider.Rotation
		server *emailprovider.DeliveryError

		user  string // that a mail is sent with afterwards
		asked int
		event string // empty if nothing is stored
		kind  fault.Kind
		id    string
	}{
		{"right", smtp(password("old c4n4ry")), rotation("c4n4ry", enforce), nil, "user", 1, changed + " password", 0, ""},
		{"wrong", smtp(password("old c4n4ry")), rotation("c4n4ry", enforce), wrong, "user", 1, "", fault.FailedPrecondition, "EMAIL-s9kfs"},
		{"busy", smtp(password("old c4n4ry")), rotation("c4n4ry", enforce), busy, "user", 1, "", fault.Unavailable, "EMAIL-skwi4"},
		{"mode of nobody", smtp(password("old c4n4ry")), rotation("c4n4ry", ""), wrong, "user", 1, "", fault.FailedPrecondition, "EMAIL-s9kfs"},
		{"right, warn", smtp(password("old c4n4ry")), rotation("c4n4ry", warn), nil, "user", 1, changed + " password", 0, ""},
		{"wrong, warn", smtp(password("old c4n4ry")), rotation("c4n4ry", warn), wrong, "user", 1, changed + " password", 0, ""},
		{"wrong, off", smtp(password("old c4n4ry")), rotation("c4n4ry", off), wrong, "user", 0, changed + " password", 0, ""},
		{"another user", smtp(password("old c4n4ry")), withUser("u2", rotation("c4n4ry", enforce)), nil, "u2", 1, changed + " password+user", 0, ""},
		{"another user, wrong", smtp(password("old c4n4ry")), withUser("u2", rotation("c4n4ry", enforce)), wrong, "user", 1, "", fault.FailedPrecondition, "EMAIL-s9kfs"},
		{"the same user", smtp(password("old c4n4ry")), withUser("user", rotation("c4n4ry", enforce)), nil, "user", 1, changed + " password", 0, ""},
		{"the same password", smtp(password("c4n4ry")), rotation("c4n4ry", enforce), nil, "user", 1, changed + " password", 0, ""},
		{"none becomes plain", smtp(none), rotation("c4n4ry", enforce), nil, "user", 1, changed + " password", 0, ""},
		{"xoauth2", smtp(xoauth2("old c4n4ry")), rotation("c4n4ry", off), nil, "user", 0, "", fault.FailedPrecondition, "MAILKEEP-XOAUTH2"},
		{"no user", noUser, rotation("c4n4ry", off), nil, "", 0, "", fault.FailedPrecondition, "MAILKEEP-VALUE"},
		{"no user, now one", noUser, withUser("u2", rotation("c4n4ry", enforce)), nil, "u2", 1, changed + " password+user", 0, ""},
		{"user taken away", smtp(password("old c4n4ry")), withUser("", rotation("c4n4ry", warn)), nil, "user", 0, "", fault.FailedPrecondition, "MAILKEEP-VALUE"},
		{"no password", smtp(password("old c4n4ry")), rotation("", off), nil, "user", 0, "", fault.InvalidArgument, "MAILKEEP-PASSWORD"},
		{"bad password", smtp(password("old c4n4ry")), rotation("c4n4ry\n", off), nil, "user", 0, "", fault.InvalidArgument, "MAILKEEP-VALUE"},
		{"bad user", smtp(password("old c4n4ry")), withUser("\x00", rotation("c4n4ry", off)), nil, "user", 0, "", fault.InvalidArgument, "MAILKEEP-VALUE"},
	} {
		for _, active := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", c.name, active), func(t *testing.T) {
				w := newWorld(t, emailprovider.Strict)
				log := w.logs()
				before := w.add(c.from)
				if active {
					var err error
					if before, err = w.Activate(t.Context(), by, before.ID); err != nil {
						t.Fatal(err)
					}
				}
				w.mailer.answer = says(c.server)
				var steps []string
				p, report, err := w.RotatePassword(t.Context(), by, before.ID, c.in, func(s emailprovider.StepReport) { steps = append(steps, s.Name) })

				if len(w.mailer.asked) != c.asked || len(steps) != 2*c.asked || len(report.Steps) != 2*c.asked {
					t.Errorf("the server was asked %d times, steps %v, report %+v; want %d times", len(w.mailer.asked), steps, report, c.asked)
				}
				for _, via := range w.mailer.asked {
					if via.Secret.Reveal() != c.in.Password.Reveal() || via.SMTP.Auth != emailprovider.AuthPlain || via.SMTP.Host != c.from.Host || !via.SMTP.TLS || via.Instance != instance.Default {
						t.Errorf("asked about %+v with %q", *via.SMTP, via.Secret.Reveal())
					}
					if via.CredentialVersion != 0 || via.ProviderID != "" {
						t.Errorf("a candidate goes as the stored credential: %+v", via)
					}
				}
				after := w.stored(before.ID)
				if after.State != before.State {
					t.Errorf("state %v became %v", before.State, after.State)
				}
				if strings.Contains(log.String()+fmt.Sprint(err, report), "c4n4ry") {
					t.Errorf("a secret is told: %v, log %s", err, log)
				}
				events := w.events(before.ID)
				if c.event == "" {
					wantFault(t, err, c.kind, c.id)
					if after.Sequence != before.Sequence || len(events) > 2 || w.sends(before.ID).SMTP.User != c.user {
						t.Errorf("something was stored: %+v, events %v", after, events)
					}
					wantVerificationError(t, err, c.server, c.asked)
					return
				}
				last := events[len(events)-1]
				if got := fmt.Sprint(last.Type, " ", strings.Join(last.Fields, "+")); got != c.event || err != nil {
					t.Errorf("event %q, %v; want %q", got, err, c.event)
				}
				version := before.Credential.Version + 1
				via := w.sends(before.ID)
				if via.Secret.Reveal() != "c4n4ry" || via.SMTP.User != c.user || via.CredentialVersion != version || last.CredentialVersion != version || p.Credential.Version != version {
					t.Errorf("sends with %q and %q, version %d; event %d, answer %d", via.SMTP.User, via.Secret.Reveal(), via.CredentialVersion, last.CredentialVersion, p.Credential.Version)
				}
				if wantPassed := c.server == nil || c.asked == 0; report.Passed() != wantPassed {
					t.Errorf("the report says %v, want %t", report.Failed, wantPassed)
				}
			})
		}
	}
}

// wantVerificationError wants the report in the error exactly if the server was asked.
func wantVerificationError(t *testing.T, err error, server *emailprovider.DeliveryError, asked int) {
	t.Helper()
	var refused *emailprovider.VerificationError
	if errors.As(err, &refused) != (asked > 0) {
		t.Fatalf("%T after %d verifications", err, asked)
	}
	if asked == 0 {
		return
	}
	want := fmt.Sprintf("was not stored: verification failed at step %s: %d %s", server.Step, server.Code, server.Text)
	if refused.Report.Failed != server || !strings.Contains(err.Error(), want) {
		t.Errorf("%v with %+v, want %q", err, refused.Report, want)
	}
}

func TestRotateAndRollbackOfNothing(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	hook, _, err := w.AddHTTP(t.Context(), by, emailprovider.HTTPSettings{Endpoint: "https://hook.example.com/"})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := by
	elsewhere.Instance = "other"
	p := w.add(smtp(password("p")))
	for name, target := range map[string]struct {
		c  emailprovider.Caller
		id string
	}{
		"unknown": {by, "123456789012345678"}, "empty": {by, ""}, "HTTP": {by, hook.ID}, "of another instance": {elsewhere, p.ID},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := w.RotatePassword(t.Context(), target.c, target.id, rotation("q", enforce), nil)
			wantFault(t, err, fault.NotFound, "QUERY-fwofw")
			_, _, err = w.RollbackPassword(t.Context(), target.c, target.id, enforce, nil)
			wantFault(t, err, fault.NotFound, "QUERY-fwofw")
			_, err = w.VerifyStored(t.Context(), target.c, target.id, nil, "")
			wantFault(t, err, fault.NotFound, "QUERY-fwofw")
			_, err = w.VerifyStored(t.Context(), target.c, target.id, &emailprovider.VerifyValues{Host: "h:25"}, "")
			wantFault(t, err, fault.NotFound, "QUERY-fwofw")
		})
	}
	if len(w.mailer.asked) != 0 {
		t.Error("a server was asked")
	}
}

// TestRotationLosesTheRace has the provider changed by somebody else while the server verifies the
// new password: nothing may be stored that the server did not accept with the settings it is stored
// with.
func TestRotationLosesTheRace(t *testing.T) {
	update := func(change func(*emailprovider.SMTPSettings)) func(*world, string) error {
		return func(w *world, id string) error {
			in := smtp(password("theirs"))
			change(&in)
			_, err := w.UpdateSMTP(w.t.Context(), by, id, in)
			return err
		}
	}
	for _, c := range []struct {
		name      string
		meanwhile func(*world, string) error
		asked     int // in all
		kind      fault.Kind
		id        string
	}{
		{"host", update(func(in *emailprovider.SMTPSettings) { in.Host = "new.example.com:587" }), 2, fault.FailedPrecondition, "EMAIL-s9kfs"},
		{"tls", update(func(in *emailprovider.SMTPSettings) { in.TLS = false }), 2, fault.FailedPrecondition, "EMAIL-s9kfs"},
		{"user", update(func(in *emailprovider.SMTPSettings) { in.User = "new" }), 2, fault.FailedPrecondition, "EMAIL-s9kfs"},
		{"no user", update(func(in *emailprovider.SMTPSettings) { in.User = "" }), 1, fault.FailedPrecondition, "MAILKEEP-VALUE"},
		{"xoauth2", update(func(in *emailprovider.SMTPSettings) { in.Auth = xoauth2("s") }), 1, fault.FailedPrecondition, "MAILKEEP-XOAUTH2"},
		{"removed", func(w *world, id string) error { _, err := w.Remove(w.t.Context(), by, id); return err }, 1, fault.NotFound, "QUERY-fwofw"},
		// These are no other login.
		{"description", update(func(in *emailprovider.SMTPSettings) { in.Description = "new" }), 1, 0, ""},
		{"password", update(func(*emailprovider.SMTPSettings) {}), 1, 0, ""},
		{"none", update(func(in *emailprovider.SMTPSettings) { in.Auth = none }), 1, 0, ""},
		{"activated", func(w *world, id string) error { _, err := w.Activate(w.t.Context(), by, id); return err }, 1, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, emailprovider.Strict)
			p := w.add(smtp(password("p")))
			first := true
			w.mailer.answer = func(emailprovider.Route, string) *emailprovider.DeliveryError {
				if !first {
					return wrong
				}
				first = false
				if err := c.meanwhile(w, p.ID); err != nil {
					t.Error(err)
				}
				return nil
			}
			_, _, err := w.RotatePassword(t.Context(), by, p.ID, rotation("mine", enforce), nil)
			if len(w.mailer.asked) != c.asked {
				t.Errorf("the server was asked %d times, want %d", len(w.mailer.asked), c.asked)
			}
			events := w.events(p.ID)
			if c.id == "" {
				if via := w.sends(p.ID); err != nil || via.Secret.Reveal() != "mine" || len(events) != 3 {
					t.Errorf("sends %q, %d events, %v", via.Secret.Reveal(), len(events), err)
				}
				return
			}
			wantFault(t, err, c.kind, c.id)
			if len(events) != 2 {
				t.Errorf("%d events, want the addition and the change by somebody else", len(events))
			}
		})
	}
}

// TestRotationGivesUp has the host changed during every verification.
func TestRotationGivesUp(t *testing.T) {
	for _, mode := range []emailprovider.VerifyMode{enforce, warn} {
		w := newWorld(t, emailprovider.Strict)
		p := w.add(smtp(password("p")))
		w.mailer.answer = func(emailprovider.Route, string) *emailprovider.DeliveryError {
			in := smtp(password("theirs"))
			in.Host = fmt.Sprintf("h%d.example.com:587", len(w.mailer.asked))
			if _, err := w.UpdateSMTP(t.Context(), by, p.ID, in); err != nil {
				t.Error(err)
			}
			return nil
		}
		_, _, err := w.RotatePassword(t.Context(), by, p.ID, rotation("mine", mode), nil)
		wantFault(t, err, fault.Aborted, "MAILKEEP-BUSY")
		if n := len(w.mailer.asked); n != 3 || w.sends(p.ID).Secret.Reveal() != "theirs" {
			t.Errorf("asked %d times, want 3; sends %q", n, w.mailer.last().Secret.Reveal())
		}
	}
}

// TestRotationOfACallerWhoLeft has the caller go while the server is asked: its report is of that.
func TestRotationOfACallerWhoLeft(t *testing.T) {
	for _, mode := range []emailprovider.VerifyMode{enforce, warn} {
		w := newWorld(t, emailprovider.Strict)
		p := w.add(smtp(password("p")))
		ctx, leave := context.WithCancel(t.Context())
		w.mailer.answer = func(emailprovider.Route, string) *emailprovider.DeliveryError { leave(); return busy }
		if _, _, err := w.RotatePassword(ctx, by, p.ID, rotation("q", mode), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", mode, err)
		}
		if n := len(w.events(p.ID)); n != 1 {
			t.Errorf("%s: %d events", mode, n)
		}
	}
}

// TestSetPasswordVerified is the call that does not verify, told to.
func TestSetPasswordVerified(t *testing.T) {
	noUser := smtp(password("old c4n4ry"))
	noUser.User = ""
	for _, c := range []struct {
		mode   emailprovider.VerifyMode
		from   emailprovider.SMTPSettings
		server *emailprovider.DeliveryError
		asked  int
		id     string
		logged bool
	}{
		{"", smtp(password("old c4n4ry")), wrong, 0, "", false},
		{off, smtp(password("old c4n4ry")), wrong, 0, "", false},
		{off, noUser, wrong, 0, "", false},
		{warn, smtp(password("old c4n4ry")), nil, 1, "", false},
		{warn, smtp(password("old c4n4ry")), wrong, 1, "", true},
		{warn, noUser, wrong, 1, "", true},
		{enforce, smtp(password("old c4n4ry")), nil, 1, "", false},
		{enforce, smtp(password("old c4n4ry")), wrong, 1, "EMAIL-s9kfs", false},
		{enforce, noUser, wrong, 0, "MAILKEEP-VALUE", false},
	} {
		t.Run(fmt.Sprint(c.mode, " ", c.from.User, c.server != nil), func(t *testing.T) {
			w := newWorld(t, emailprovider.Strict)
			log := w.logs()
			config := w.Config
			config.VerifyCompatible = c.mode
			w.Service = emailprovider.NewService(config)
			w.mailer.answer = says(c.server)
			p := w.add(c.from)
			_, err := w.SetPassword(t.Context(), by, p.ID, secret.New("c4n4ry"))
			if len(w.mailer.asked) != c.asked {
				t.Errorf("the server was asked %d times, want %d", len(w.mailer.asked), c.asked)
			}
			want := "c4n4ry"
			if c.id != "" {
				want = "old c4n4ry"
				wantFault(t, err, fault.FailedPrecondition, c.id)
			} else if err != nil {
				t.Error(err)
			}
			if got := w.sends(p.ID).Secret.Reveal(); got != want {
				t.Errorf("sends %q, want %q", got, want)
			}
			said := log.String()
			if strings.Contains(said+fmt.Sprint(err), "c4n4ry") {
				t.Errorf("a secret is told: %v, log %s", err, said)
			}
			if !c.logged {
				if said != "" {
					t.Errorf("log: %s", said)
				}
				return
			}
			for _, part := range []string{`"level":"WARN"`, `"instance":"` + instance.Default, `"provider":"` + p.ID, `"step":"auth"`, `"code":535`} {
				if !strings.Contains(said, part) {
					t.Errorf("the log does not have %s: %s", part, said)
				}
			}
		})
	}
}

// TestUpdatesAreNotVerified: only the password methods are.
func TestUpdatesAreNotVerified(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	w.Service.VerifyCompatible = enforce
	w.mailer.answer = says(wrong)
	p := w.add(smtp(password("p")))
	if _, err := w.UpdateSMTP(t.Context(), by, p.ID, smtp(password("q"))); err != nil || len(w.mailer.asked) != 0 {
		t.Errorf("%v, asked %d times", err, len(w.mailer.asked))
	}
}

func TestListEvents(t *testing.T) {
	w := newWorld(t, emailprovider.Strict)
	p, other := w.add(smtp(password("p"))), w.add(smtp(password("p")))
	for range 105 {
		if _, err := w.SetPassword(t.Context(), by, p.ID, secret.New("p")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Remove(t.Context(), by, p.ID); err != nil {
		t.Fatal(err)
	}
	all := w.events(p.ID)
	for _, c := range []struct {
		after uint64
		limit int
		want  []emailprovider.Event
	}{
		{0, 0, all[:100]}, {0, 2, all[:2]}, {all[1].Sequence, 3, all[2:5]}, {0, 1000, all}, {all[106].Sequence, 1, nil},
	} {
		got, next, err := w.Events(t.Context(), instance.Default, p.ID, c.after, c.limit)
		if wantNext := nextAfter(all, c.want); next != wantNext {
			t.Errorf("after %d, limit %d: the next page is after %d, want %d", c.after, c.limit, next, wantNext)
		}
		same := func(a, b emailprovider.Event) bool { return a.Sequence == b.Sequence && a.ProviderID == b.ProviderID }
		if err != nil || !slices.EqualFunc(got, c.want, same) {
			t.Errorf("after %d, limit %d: %d events, %v; want %d", c.after, c.limit, len(got), err, len(c.want))
		}
	}
	for _, limit := range []int{-1, 1001} {
		_, _, err := w.Events(t.Context(), instance.Default, other.ID, 0, limit)
		wantFault(t, err, fault.InvalidArgument, "MAILKEEP-VALUE")
	}
	for _, after := range []uint64{0, 7} {
		_, _, err := w.Events(t.Context(), instance.Default, "123456789012345678", after, 0)
		wantFault(t, err, fault.NotFound, "QUERY-fwofw")
	}
}

// nextAfter is the after of the page behind this one, which is 0 behind the last.
func nextAfter(all, page []emailprovider.Event) uint64 {
	if len(page) == 0 || page[len(page)-1].Sequence == all[len(all)-1].Sequence {
		return 0
	}
	return page[len(page)-1].Sequence
}
