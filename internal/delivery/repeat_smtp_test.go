package delivery_test

import (
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// TestRepliesAreQuoted has a filter of spam repeat a mail in the reply to each command.
func TestRepliesAreQuoted(t *testing.T) {
	m := letters(1)[0]
	m.Subject, m.Text = "Your login", "Your one-time code 482913"
	const says, want = `5.7.1 rejected, Subject "Your login", body has "code 482913"`, `5.7.1 rejected, Subject "[redacted]", body has "code [redacted]"`
	for _, point := range []string{smtptest.Greeting, smtptest.EHLO, smtptest.MailFrom, smtptest.RcptTo, smtptest.Data, smtptest.Body} {
		h := startHostile(t, answers(point, smtptest.Say("550 "+says+"\r\n")))
		d := carry(t.Context(), t, newTransport(t, delivery.Options{}), stored(plainRoute(h.Addr()), 1, 1), []emailprovider.Mail{m})[0]
		if d.Failed == nil || d.Failed.Text != want || d.Failed.Code != 550 {
			t.Errorf("Carry, %s: %+v", point, d.Failed)
		}
		for _, v := range d.Verdicts {
			if v.Refused == nil || v.Refused.Text != want {
				t.Errorf("%s: %+v", point, v.Refused)
			}
		}
		if e := failed(t, delivery.New(delivery.Options{}).Deliver(t.Context(), plainRoute(h.Addr()), m)); e.Text != want {
			t.Errorf("Deliver, %s: %+v", point, e)
		}
	}
	long := startHostile(t, answers(smtptest.Body, smtptest.Say("550 "+strings.Repeat("482913 \x01 ", 300)+"\r\n")))
	e := failed(t, delivery.New(delivery.Options{}).Deliver(t.Context(), plainRoute(long.Addr()), m))
	if len(e.Text) > 256 || strings.Contains(e.Text, "482913") || strings.Contains(e.Text, "\x01") {
		t.Errorf("%q", e.Text)
	}
}
