package outbox

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
)

func draft(edit func(d *Draft)) Draft {
	d := Draft{To: []string{"r@example.com"}, Subject: "Hello", Text: "Hello.\n"}
	edit(&d)
	return d
}

func header(name, value string) func(*Draft) {
	return func(d *Draft) { d.Headers = append(d.Headers, emailprovider.Header{Name: name, Value: value}) }
}

func attach(name, kind string, size int) func(*Draft) {
	return func(d *Draft) {
		d.Attachments = append(d.Attachments, emailprovider.Attachment{Name: name, ContentType: kind, Data: make([]byte, size)})
	}
}

func many(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("r%d@example.com", i))
	}
	return all
}

// TestDraft: every refusal names the field and repeats nothing of what was sent.
func TestDraft(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(*Draft)
		field string // that the refusal begins with; empty if the draft is fine
	}{
		"plain":                 {func(*Draft) {}, ""},
		"50 recipients":         {func(d *Draft) { d.To, d.Cc, d.Bcc = many(10), many(30), many(10) }, ""},
		"html only":             {func(d *Draft) { d.Text, d.HTML = "", "<p>Hello" }, ""},
		"attachment only":       {func(d *Draft) { d.Text = ""; attach("a.pdf", "application/pdf", 1)(d) }, ""},
		"largest bodies":        {func(d *Draft) { d.Text, d.HTML = strings.Repeat("x", MaxBodies-1), "y" }, ""},
		"largest attachments":   {func(d *Draft) { attach("a", "", MaxAttached-1)(d); attach("b", "", 1)(d) }, ""},
		"allowed headers":       {func(d *Draft) { header("list-unsubscribe", "<https://x/>")(d); header("X-Campaign", "é")(d) }, ""},
		"shortest life":         {func(d *Draft) { d.ExpiresIn = time.Second }, ""},
		"longest life":          {func(d *Draft) { d.ExpiresIn = MaxLifetime }, ""},
		"emoji in subject":      {func(d *Draft) { d.Subject = "🎉 日本" }, ""},
		"nobody":                {func(d *Draft) { d.To = nil }, "to, cc and bcc "},
		"51 recipients":         {func(d *Draft) { d.Bcc = many(50) }, "to, cc and bcc "},
		"a list as an address":  {func(d *Draft) { d.Cc = []string{"a@b.c, d@e.f"} }, "cc[0] "},
		"a name":                {func(d *Draft) { d.To = []string{"Eve <eve@example.com>"} }, "to[0] "},
		"a parameter":           {func(d *Draft) { d.Bcc = []string{`"a@b.c> NOTIFY=NEVER"@d.e`} }, "bcc[0] "},
		"a line break":          {func(d *Draft) { d.To = []string{"a@b.c\r\nDATA"} }, "to[0] "},
		"reply_to":              {func(d *Draft) { d.ReplyTo = "x" }, "reply_to "},
		"subject":               {func(d *Draft) { d.Subject = "a\r\nBcc: eve@example.com" }, "subject "},
		"subject separator":     {func(d *Draft) { d.Subject = "a\u2028b" }, "subject "},
		"subject not UTF-8":     {func(d *Draft) { d.Subject = "\xff" }, "subject "},
		"tag":                   {func(d *Draft) { d.Tag = "a\n" }, "tag "},
		"idempotency_key":       {func(d *Draft) { d.IdempotencyKey = "\x00" }, "idempotency_key "},
		"too short a life":      {func(d *Draft) { d.ExpiresIn = time.Millisecond }, "expires_in "},
		"too long a life":       {func(d *Draft) { d.ExpiresIn = MaxLifetime + 1 }, "expires_in "},
		"a life that is over":   {func(d *Draft) { d.ExpiresIn = -time.Second }, "expires_in "},
		"nothing to say":        {func(d *Draft) { d.Text = "" }, "text, html and attachments "},
		"large bodies":          {func(d *Draft) { d.Text, d.HTML = strings.Repeat("x", MaxBodies), "y" }, "text and html "},
		"NUL":                   {func(d *Draft) { d.Text = "a\x00b" }, "text or html "},
		"html not UTF-8":        {func(d *Draft) { d.HTML = "\xff" }, "text or html "},
		"header of ours":        {header("Subject", "x"), "headers[0] "},
		"header Bcc":            {header("bcc", "x"), "headers[0] "},
		"header DKIM":           {header("DKIM-Signature", "x"), "headers[0] "},
		"header X-Mailkeep":     {header("x-mailkeep-id", "x"), "headers[0] "},
		"header X-SMTPAPI":      {header("X-SMTPAPI", "x"), "headers[0] "},
		"header X-MC-":          {header("x-mc-bccaddress", "x"), "headers[0] "},
		"header X-":             {header("X-", "x"), "headers[0] "},
		"header with colon":     {header("X-A: b", "x"), "headers[0] "},
		"header with break":     {header("X-A\r\nBcc", "x"), "headers[0] "},
		"header value break":    {header("X-A", "x\r\nBcc: eve@example.com"), "headers[0] "},
		"header empty":          {header("X-A", " "), "headers[0] "},
		"header too long":       {header("X-A", strings.Repeat("x", maxHeaderValue+1)), "headers[0] "},
		"header twice":          {func(d *Draft) { header("X-A", "x")(d); header("x-a", "y")(d) }, "headers[1] "},
		"headers":               {func(d *Draft) { d.Headers = make([]emailprovider.Header, MaxHeaders+1) }, "headers "},
		"attachments":           {func(d *Draft) { d.Attachments = make([]emailprovider.Attachment, MaxAttachments+1) }, "attachments "},
		"attachments too large": {func(d *Draft) { attach("a", "", MaxAttached)(d); attach("b", "", 1)(d) }, "attachments "},
		"attachment no name":    {attach("", "", 1), "attachments[0].name "},
		"attachment path":       {attach("../x", "", 1), "attachments[0].name "},
		"attachment break":      {attach("a\r\nb", "", 1), "attachments[0].name "},
		"attachment type":       {attach("a", "x", 1), "attachments[0].content_type "},
		"attachment multipart":  {attach("a", "multipart/mixed; boundary=x", 1), "attachments[0].content_type "},
		"attachment message":    {attach("a.eml", "message/rfc822", 1), "attachments[0].content_type "},
		"attachment type break": {attach("a", "text/plain\r\nX: y", 1), "attachments[0].content_type "},
	} {
		d := draft(c.edit)
		_, err := d.check()
		if c.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.InvalidArgument || f.ID != "MAILKEEP-VALUE" || !strings.HasPrefix(f.Text, c.field) {
			t.Errorf("%s: %v, want a refusal of %s", name, err, c.field)
		}
		if err != nil && strings.Contains(strings.ToLower(err.Error()), "eve") {
			t.Errorf("%s: the refusal repeats what was sent: %v", name, err)
		}
	}
}

// TestRecipients: one that is named twice gets the mail once; spaces around an address don't matter.
func TestRecipients(t *testing.T) {
	d := draft(func(d *Draft) {
		d.To, d.Cc, d.Bcc = []string{" a@x.example ", "b@x.example"}, []string{"a@x.example"}, []string{"c@x.example", "b@x.example"}
	})
	got, err := d.check()
	if err != nil {
		t.Fatal(err)
	}
	want := []Recipient{{"a@x.example", To, Pending, 0, ""}, {"b@x.example", To, Pending, 0, ""}, {"c@x.example", Bcc, Pending, 0, ""}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if d.To[0] != "a@x.example" {
		t.Errorf("the draft still has %q", d.To[0])
	}
}

// TestFingerprint: it must be the same in the next release, or honest repeats of a call are refused. A
// new field of a draft needs omitzero.
func TestFingerprint(t *testing.T) {
	d := draft(func(d *Draft) { header("X-A", "b")(d); attach("a", "text/plain", 1)(d) })
	sum, err := fingerprint(d)
	if err != nil {
		t.Fatal(err)
	}
	const want = "5ead202b5c4bfc9fb1df36f6f3621e81b80ecbc398b601ff97c7f6808138d20b"
	if got := hex.EncodeToString(sum); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
