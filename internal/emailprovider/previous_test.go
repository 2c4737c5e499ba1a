package emailprovider_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
	"github.com/mailkeep/mailkeep/internal/seal"
	"github.com/mailkeep/mailkeep/internal/secret"
)

const day = 24 * time.Hour

// newKeepingWorld keeps previous passwords for a day.
func newKeepingWorld(t *testing.T, mode emailprovider.BindingMode) *world {
	w := newWorld(t, mode)
	w.Service.KeepPrevious = day
	return w
}

func (w *world) set(id, p string) emailprovider.Provider {
	w.t.Helper()
	changed, err := w.SetPassword(w.t.Context(), by, id, secret.New(p))
	if err != nil {
		w.t.Fatal(err)
	}
	return changed
}

func (w *world) rollback(id string) (emailprovider.Provider, error) {
	p, _, err := w.RollbackPassword(w.t.Context(), by, id, enforce, nil)
	return p, err
}

// TestPrevious is what each change leaves to go back to, of a provider whose password "a" of user
// "user" was replaced by "b". What is left must open: each is rolled back to.
func TestPrevious(t *testing.T) {
	update := func(auth emailprovider.AuthSettings, changes ...func(*emailprovider.SMTPSettings)) func(*world, string) error {
		return func(w *world, id string) error {
			in := smtp(auth)
			for _, change := range changes {
				change(&in)
			}
			_, err := w.UpdateSMTP(w.t.Context(), by, id, in)
			return err
		}
	}
	host := func(h string) func(*emailprovider.SMTPSettings) {
		return func(in *emailprovider.SMTPSettings) { in.Host = h }
	}
	user := func(in *emailprovider.SMTPSettings) { in.User = "u2" }
	noTLS := func(in *emailprovider.SMTPSettings) { in.TLS = false }
	described := func(in *emailprovider.SMTPSettings) { in.Description = "new" }
	rotate := func(in emailprovider.Rotation) func(*world, string) error {
		return func(w *world, id string) error {
			_, _, err := w.RotatePassword(w.t.Context(), by, id, in, nil)
			return err
		}
	}
	for _, c := range []struct {
		name   string
		change func(*world, string) error
		want   string // previous user and password
	}{
		{"nothing", func(*world, string) error { return nil }, "user a"},
		{"password", func(w *world, id string) error { w.set(id, "c"); return nil }, "user b"},
		{"the same password", func(w *world, id string) error { w.set(id, "b"); return nil }, "user a"},
		{"rotation", rotate(rotation("c", enforce)), "user b"},
		{"rotation of the user", rotate(withUser("u2", rotation("c", enforce))), "user b"},
		{"rotation of the user only", rotate(withUser("u2", rotation("b", enforce))), "user b"},
		{"rollback", func(w *world, id string) error { _, err := w.rollback(id); return err }, "user b"},
		{"update", update(password(""), described), "user a"},
		{"update with password", update(password("c")), "user b"},
		{"update with the same password", update(password("b"), described), "user a"},
		{"update with password and user", update(password("c"), user), "user b"},
		{"user, compatible", update(password(""), user), "user a"},
		{"host", update(password("c"), host("new.example.com:587")), ""},
		{"port", update(password("c"), host("mail.example.com:25")), ""},
		{"host, compatible", update(password(""), host("new.example.com:587")), ""},
		{"case of the host", update(password(""), host("MAIL.example.com:587")), "user a"},
		{"tls, compatible", update(password(""), noTLS), ""},
		{"tls", update(password("c"), noTLS), ""},
		{"none", update(none), ""},
		{"xoauth2", update(xoauth2("s")), ""},
		{"xoauth2 and back", func(w *world, id string) error {
			if err := update(xoauth2("s"))(w, id); err != nil {
				return err
			}
			return update(password("c"))(w, id)
		}, ""},
		{"host and back", func(w *world, id string) error {
			if err := update(password("c"), host("new.example.com:587"))(w, id); err != nil {
				return err
			}
			return update(password("b"))(w, id)
		}, ""},
		{"activation", func(w *world, id string) error { _, err := w.Activate(w.t.Context(), by, id); return err }, "user a"},
		{"any, after its time", func(w *world, id string) error { w.now = w.now.Add(day); return update(password(""), described)(w, id) }, ""},
		{"password, none kept", func(w *world, id string) error { w.Service.KeepPrevious = 0; w.set(id, "c"); return nil }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newKeepingWorld(t, emailprovider.Compatible)
			p := w.add(smtp(password("a")))
			if p.Previous.Stored() {
				t.Fatal("a new provider has a previous password")
			}
			w.set(p.ID, "b")
			if err := c.change(w, p.ID); err != nil {
				t.Fatal(err)
			}
			kept := w.stored(p.ID)
			if kept.Previous.Usable(w.now) != (c.want != "") || !kept.Previous.Usable(w.now) && kept.Previous.Stored() {
				t.Fatalf("kept until %v, version %d; want %q", kept.Previous.Until, kept.Previous.Version, c.want)
			}
			rolled, err := w.rollback(p.ID)
			if c.want == "" {
				wantFault(t, err, fault.FailedPrecondition, "MAILKEEP-NOPREVIOUS")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			via := w.sends(p.ID)
			if got := via.SMTP.User + " " + via.Secret.Reveal(); got != c.want || rolled.Credential.Version != kept.Credential.Version+1 {
				t.Errorf("sends with %s, version %d; want %s", got, rolled.Credential.Version, c.want)
			}
			if !kept.Previous.Until.Equal(w.now.Add(day)) {
				t.Errorf("kept until %v", kept.Previous.Until)
			}
		})
	}
}

// TestRollbackTwice goes back and forth between two passwords of two users.
func TestRollbackTwice(t *testing.T) {
	w := newKeepingWorld(t, emailprovider.Strict)
	p := w.add(smtp(password("a")))
	if _, _, err := w.RotatePassword(t.Context(), by, p.ID, withUser("u2", rotation("b", enforce)), nil); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"user a", "u2 b", "user a"} {
		w.now = w.now.Add(time.Hour)
		version := uint64(i + 3)
		rolled, err := w.rollback(p.ID)
		if err != nil {
			t.Fatal(err)
		}
		via := w.sends(p.ID)
		if got := via.SMTP.User + " " + via.Secret.Reveal(); got != want || via.CredentialVersion != version {
			t.Errorf("sends with %s, version %d; want %s and %d", got, via.CredentialVersion, want, version)
		}
		if asked := w.mailer.asked[len(w.mailer.asked)-1]; asked.SMTP.User+" "+asked.Secret.Reveal() != want {
			t.Errorf("asked about %s", asked.SMTP.User)
		}
		if prev := rolled.Previous; prev.Version != version-1 || !prev.Until.Equal(w.now.Add(day)) {
			t.Errorf("previous version %d until %v", prev.Version, prev.Until)
		}
		events := w.events(p.ID)
		last := events[len(events)-1]
		if got := fmt.Sprint(last.Type, " ", strings.Join(last.Fields, "+"), last.CredentialVersion); got != fmt.Sprint("provider.password_rolled_back password+user", version) {
			t.Errorf("event %s", got)
		}
	}
}

// TestRollbackVerified has the server refuse the password that is brought back.
func TestRollbackVerified(t *testing.T) {
	for mode, stored := range map[emailprovider.VerifyMode]bool{enforce: false, "": false, warn: true, off: true} {
		w := newKeepingWorld(t, emailprovider.Strict)
		p := w.add(smtp(password("a")))
		w.set(p.ID, "b")
		w.mailer.answer = says(wrong)
		_, report, err := w.RollbackPassword(t.Context(), by, p.ID, mode, nil)
		if (len(w.mailer.asked) == 0) != (mode == off) || report.Passed() != (mode == off) {
			t.Errorf("%s: asked %d times, report %v", mode, len(w.mailer.asked), report)
		}
		want := "b"
		if stored {
			want = "a"
		} else {
			wantFault(t, err, fault.FailedPrecondition, "EMAIL-s9kfs")
		}
		if got := w.sends(p.ID).Secret.Reveal(); got != want || (err == nil) != stored {
			t.Errorf("%s: sends %q, %v; want %q", mode, got, err, want)
		}
	}
}

// TestRollbackLosesTheRace has the password changed while the server is asked about the one before:
// what would be brought back is another one then.
func TestRollbackLosesTheRace(t *testing.T) {
	w := newKeepingWorld(t, emailprovider.Strict)
	p := w.add(smtp(password("a")))
	w.set(p.ID, "b")
	w.mailer.answer = func(via emailprovider.Route, _ string) *emailprovider.DeliveryError {
		if via.Secret.Reveal() == "a" {
			w.set(p.ID, "c")
			return nil
		}
		return wrong
	}
	_, err := w.rollback(p.ID)
	wantFault(t, err, fault.FailedPrecondition, "EMAIL-s9kfs")
	if got := w.sends(p.ID).Secret.Reveal(); got != "c" || len(w.mailer.asked) != 2 {
		t.Errorf("sends %q after %d verifications", got, len(w.mailer.asked))
	}
}

func TestPreviousExpires(t *testing.T) {
	w := newKeepingWorld(t, emailprovider.Strict)
	p, later := w.add(smtp(password("a"))), w.add(smtp(password("a")))
	w.set(p.ID, "b")
	w.now = w.now.Add(time.Second)
	w.set(later.ID, "b")

	w.now = w.now.Add(day - time.Second - time.Microsecond)
	if n, err := w.DestroyPrevious(t.Context()); n != 0 || err != nil {
		t.Errorf("destroyed %d before their time, %v", n, err)
	}
	w.now = w.now.Add(time.Microsecond)
	if !w.stored(p.ID).Previous.Stored() {
		t.Fatal("it is not there")
	}
	_, err := w.rollback(p.ID)
	wantFault(t, err, fault.FailedPrecondition, "MAILKEEP-NOPREVIOUS")
	if n, err := w.DestroyPrevious(t.Context()); n != 1 || err != nil {
		t.Errorf("destroyed %d, want 1, %v", n, err)
	}
	if w.stored(p.ID).Previous.Stored() {
		t.Error("it is still there")
	}
	if _, err := w.rollback(later.ID); err != nil {
		t.Error(err)
	}
}

// TestPreviousDoesNotOpen has a keyset without its key, and a previous password that was moved from
// another provider.
func TestPreviousDoesNotOpen(t *testing.T) {
	w := newKeepingWorld(t, emailprovider.Strict)
	p, other := w.add(smtp(password("a c4n4ry"))), w.add(smtp(password("other c4n4ry")))
	w.set(p.ID, "b c4n4ry")
	w.set(other.ID, "b c4n4ry")

	keys, err := seal.Create(&keyfile{})
	if err != nil {
		t.Fatal(err)
	}
	config := w.Config
	config.Sealer = keys
	_, _, err = emailprovider.NewService(config).RollbackPassword(t.Context(), by, p.ID, off, nil)
	wantFault(t, err, fault.FailedPrecondition, "MAILKEEP-NOPREVIOUS")

	moved := w.stored(p.ID)
	moved.Previous = w.stored(other.ID).Previous
	_, err = w.store.Apply(t.Context(), emailprovider.Change{
		Event:  emailprovider.Event{Instance: p.Instance, ProviderID: p.ID, Type: emailprovider.EventUpdated, At: w.now},
		Expect: moved.Sequence, ExpectKey: moved.Credential.Sealed.KeyID, Put: &moved,
	})
	if err != nil {
		t.Fatal(err)
	}
	log := w.logs()
	_, err = w.rollback(p.ID)
	wantFault(t, err, fault.FailedPrecondition, "MAILKEEP-NOPREVIOUS")
	if said := log.String(); !strings.Contains(said, p.ID) || strings.Contains(said+err.Error(), "c4n4ry") {
		t.Errorf("log: %s, error: %v", said, err)
	}
	if _, err := w.rollback(other.ID); err != nil {
		t.Error(err)
	}
}

// TestDamagedIsNotKept replaces a password that does not open: the one before it is what one can go
// back to.
func TestDamagedIsNotKept(t *testing.T) {
	w := newKeepingWorld(t, emailprovider.Strict)
	p := w.add(smtp(password("a")))
	damaged := w.set(p.ID, "b")
	foreign, err := w.keyset.Seal(secret.New("b"), emailprovider.Binding{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Reseal(t.Context(), damaged, foreign); err != nil {
		t.Fatal(err)
	}
	w.set(p.ID, "c")
	if _, err := w.rollback(p.ID); err != nil {
		t.Fatal(err)
	}
	if got := w.sends(p.ID).Secret.Reveal(); got != "a" {
		t.Errorf("sends %q", got)
	}
}

// TestKeyRotationKeepsPrevious seals everything again: the previous password still opens.
func TestKeyRotationKeepsPrevious(t *testing.T) {
	w := newKeepingWorld(t, emailprovider.Strict)
	p := w.add(smtp(password("a")))
	w.set(p.ID, "b")
	primary, err := w.keyset.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := emailprovider.Reseal(t.Context(), w.store, w.keyset, always(primary)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a", "b"} {
		if _, err := w.rollback(p.ID); err != nil {
			t.Fatal(err)
		}
		if got := w.sends(p.ID).Secret.Reveal(); got != want {
			t.Errorf("sends %q, want %q", got, want)
		}
	}
}
