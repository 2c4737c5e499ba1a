package smtptest_test

import (
	"context"
	"errors"
	"net/smtp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
)

func start(t *testing.T, o smtptest.Options) *smtptest.Server {
	t.Helper()
	s, err := smtptest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// send is the standard library's client: nothing of ours.
func send(s *smtptest.Server, password string) error {
	var auth smtp.Auth
	if password != "" {
		auth = smtp.PlainAuth("", "u", password, "127.0.0.1")
	}
	return smtp.SendMail(s.Addr(), auth, "a@example.com", []string{"b@example.com", "c@example.com"}, []byte("Subject: x\r\n\r\n.y\r\n"))
}

// TestVersions: every mail and every attempt names the version of the password behind it.
func TestVersions(t *testing.T) {
	s := start(t, smtptest.Options{DemandAuth: true})
	if v := s.SetPassword("u", "one"); v != 1 {
		t.Errorf("version %d", v)
	}
	sent := []error{send(s, "one")}
	if v := s.SetPassword("u", "two"); v != 2 {
		t.Errorf("version %d", v)
	}
	sent = append(sent, send(s, "one"), send(s, "two"), send(s, "three"), send(s, ""))
	s.AllowPassword("u", "four")
	sent = append(sent, send(s, "two"), send(s, "four"))
	open := start(t, smtptest.Options{})
	sent = append(sent, send(open, ""))
	for i, ok := range []bool{true, false, true, false, false, true, true, true} {
		if (sent[i] == nil) != ok {
			t.Errorf("mail %d: %v", i, sent[i])
		}
	}
	type seen struct {
		Version int
		OK      bool
	}
	var attempts []seen
	for _, a := range s.Attempts() {
		attempts = append(attempts, seen{a.Version, a.OK})
	}
	if diff := cmp.Diff([]seen{{1, true}, {1, false}, {2, true}, {0, false}, {2, true}, {3, true}}, attempts); diff != "" {
		t.Error(diff)
	}
	var versions []int
	for _, m := range s.Mails() {
		versions = append(versions, m.Version)
		if m.From != "a@example.com" || !slices.Equal(m.To, []string{"b@example.com", "c@example.com"}) || string(m.Data) != "Subject: x\r\n\r\n.y\r\n" {
			t.Errorf("%+v", m)
		}
	}
	if !slices.Equal(versions, []int{1, 2, 2, 3}) || s.Connections() != 7 {
		t.Errorf("versions %v, %d connections", versions, s.Connections())
	}
}

// TestWait returns as soon as the mail is there, and counts mails that are not kept.
func TestWait(t *testing.T) {
	var printed []string
	s := start(t, smtptest.Options{Keep: 1, OnMail: func(m smtptest.Mail) { printed = append(printed, m.From) }})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for range 3 {
			_ = send(s, "")
		}
	}()
	mails, err := s.Wait(ctx, 3)
	if err != nil || len(mails) != 1 || len(printed) != 3 {
		t.Errorf("%v, %d mails, printed %v", err, len(mails), printed)
	}
	cancel()
	if _, err := s.Wait(ctx, 4); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestSessions: what is recorded names its session, and an RSET that was sent is told from go-smtp's own.
func TestSessions(t *testing.T) {
	s := start(t, smtptest.Options{Mode: smtptest.Plain})
	s.SetPassword("u", "one")
	for range 2 {
		c, err := smtp.Dial(s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		errs := []error{c.Hello("x.example.com"), c.Auth(smtp.PlainAuth("", "u", "one", "127.0.0.1"))}
		for range 2 {
			errs = append(errs, c.Mail("a@example.com"), c.Rcpt("b@example.com"))
			w, err := c.Data()
			if err != nil {
				t.Fatal(err)
			}
			errs = append(errs, w.Close(), c.Reset())
		}
		if err := errors.Join(append(errs, c.Quit())...); err != nil {
			t.Fatal(err)
		}
	}
	var mails, attempts []int
	for _, m := range s.Mails() {
		mails = append(mails, m.Session)
	}
	for _, a := range s.Attempts() {
		attempts = append(attempts, a.Session)
	}
	if !slices.Equal(mails, []int{1, 1, 2, 2}) || !slices.Equal(attempts, []int{1, 2}) || s.Resets() != 4 {
		t.Errorf("mails %v, attempts %v, %d RSETs", mails, attempts, s.Resets())
	}
}
