package delivery

import (
	"bytes"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

var (
	testSender  = emailprovider.SMTP{SenderAddress: "sender@example.com", SenderName: "Sender, Inc.", ReplyTo: "desk@example.com"}
	testContent = emailprovider.Mail{
		MessageID: "one@example.com", Date: time.Date(2026, 2, 3, 12, 0, 5, 0, time.UTC),
		To: []string{"to@example.org"}, Recipients: []string{"to@example.org"},
	}
	composer = New(Options{})
)

func mustCompose(t testing.TB, from emailprovider.SMTP, m emailprovider.Mail) envelope {
	t.Helper()
	e, err := composer.compose(from, m)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var (
	someTexts = []string{
		"", "Hello\n", "no end", ".\r\n..\r\n.", strings.Repeat("x", 3000), "Grüße\n" + strings.Repeat("plain text\n", 50),
		strings.Repeat("世界", 900), "one --=_ mark\n--=_a1\n", "trailing \nspaces\t\n",
	}
	someFiles = [][]emailprovider.Attachment{
		nil,
		{{}},
		{{Name: "a.pdf", ContentType: "application/pdf", Data: []byte("%PDF\x00\xff")}, {Name: "b c.txt", ContentType: "text/plain; charset=utf-8", Data: []byte("--=_\r\n.\r\n")}},
		{{Name: "Übersicht 世界 🎉.pdf", Data: bytes.Repeat([]byte{0, 1, 2, 0xff}, 300)}},
		{{Name: strings.Repeat("長い名前", 20) + ".txt", ContentType: `text/x; a="b;  \"c\""; d*=utf-8''%C3%BC`, Data: []byte("x")}},
		{{Name: `q"uo\te's (1); filename=x.exe`, Data: []byte("y")}, {Name: strings.Repeat("n", 255), Data: bytes.Repeat([]byte("\n"), 57)}},
		{{Name: "=?utf-8?b?eA==?=", Data: bytes.Repeat([]byte("z"), 58)}, {Name: "100%.txt"}, {Name: " edge "}},
	}
)

// TestCompositionComesBack parses every combination of texts and files.
func TestCompositionComesBack(t *testing.T) {
	m := testContent
	m.Text, m.HTML, m.Attachments = "a", "b", someFiles[1]
	borders := parse(t, mustCompose(t, testSender, m).message).borders
	hostile := "a\n--" + borders[0] + "--\n--" + borders[1] + "\n\nb\n" // who knows the message id knows them
	texts := append([]string{hostile}, someTexts...)
	for _, text := range texts {
		for _, html := range texts {
			for _, files := range someFiles {
				m := testContent
				m.Text, m.HTML, m.Attachments = text, html, files
				checkContentOf(t, m, mustCompose(t, testSender, m).message)
			}
		}
	}
}

func checkContentOf(t *testing.T, m emailprovider.Mail, data []byte) {
	t.Helper()
	got := parse(t, data)
	wantTypes, wantBodies := bodyOf(m)
	if len(m.Attachments) > 0 {
		if m.Text == "" && m.HTML == "" {
			wantTypes, wantBodies = nil, map[string]string{}
		}
		wantTypes = append([]string{"multipart/mixed"}, wantTypes...)
	}
	for i, a := range m.Attachments {
		if i >= len(got.files) {
			t.Fatalf("%d files of %d", len(got.files), len(m.Attachments))
		}
		if f := got.files[i]; f.Name != a.Name || !bytes.Equal(f.Data, a.Data) {
			t.Errorf("%q came back as %q with %d bytes", a.Name, f.Name, len(f.Data))
		}
		kind, _, _ := strings.Cut(a.ContentType, ";")
		if kind == "" {
			kind = "application/octet-stream"
		}
		wantTypes = append(wantTypes, strings.ToLower(strings.TrimSpace(kind))) // the case does not matter (RFC 2045, section 5.1)
		if want, _ := contentTypeOf(a); got.files[i].ContentType != want {
			t.Errorf("%q, not %q", got.files[i].ContentType, want)
		}
	}
	if diff := cmp.Diff(wantTypes, got.types); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantBodies, got.bodies); diff != "" {
		t.Error(diff)
	}
	for _, boundary := range got.borders {
		// In its header, between parts, and at the end.
		inHeader, inBody := bytes.Count(data, []byte(`"`+boundary)), bytes.Count(data, []byte("\r\n--"+boundary))
		if all := bytes.Count(data, []byte(boundary)); inHeader != 1 || all != inHeader+inBody {
			t.Errorf("%s is there %d times, %d as a delimiter", boundary, all, inBody)
		}
	}
}

func bodyOf(m emailprovider.Mail) (types []string, bodies map[string]string) {
	switch {
	case m.HTML == "":
		return []string{"text/plain"}, map[string]string{"text/plain": asLines(m.Text)}
	case m.Text == "":
		return []string{"text/html"}, map[string]string{"text/html": asLines(m.HTML)}
	}
	return []string{"multipart/alternative", "text/plain", "text/html"},
		map[string]string{"text/plain": asLines(m.Text), "text/html": asLines(m.HTML)}
}

// TestHeadersInOrder has everything that a mail can have.
func TestHeadersInOrder(t *testing.T) {
	m := testContent
	m.To, m.Cc = []string{"a@example.org", "b@example.org", "c@example.org"}, []string{"d@example.org", "e@例子.example"}
	m.Recipients = []string{"blind@example.org", "b@example.org"}
	m.ReplyTo, m.Subject, m.Text = "answers@example.com", "Grüße", "x"
	const url = "<https://example.com/unsubscribe?x=?a&y=0123456789012345678901234567890123456789012345678901234567890123456789>"
	m.Headers = []emailprovider.Header{
		{Name: "List-Unsubscribe", Value: url + ", <mailto:u@example.com>"}, {Name: "X-Tag", Value: " größer als  "},
		{Name: "X-" + strings.Repeat("Long", 10), Value: strings.Repeat("ä", 100)}, {Name: "X-Empty", Value: "  "}, {Name: "X-Colons", Value: strings.Repeat("a: ", 600) + "b"},
	}
	e := mustCompose(t, testSender, m)
	got := parse(t, e.message)
	want := []string{
		"Date", "Message-ID", "From", "To", "Cc", "Reply-To", "Subject", "List-Unsubscribe", "X-Tag", m.Headers[2].Name, "X-Colons",
		"MIME-Version", "Content-Type", "Content-Transfer-Encoding",
	}
	if diff := cmp.Diff(want, got.names); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{
		"Subject": "Grüße", "Reply-To": "<answers@example.com>", "List-Unsubscribe": m.Headers[0].Value,
		"To": "<a@example.org>, <b@example.org>, <c@example.org>", "Cc": "<d@example.org>, <e@例子.example>",
		"From": `"Sender, Inc." <sender@example.com>`, "X-Tag": " größer als  ", m.Headers[2].Name: m.Headers[2].Value, "X-Colons": m.Headers[4].Value,
	} {
		if value := got.value(t, name); value != want {
			t.Errorf("%s: %q, not %q", name, value, want)
		}
	}
	if !e.utf8 || e.from != "sender@example.com" || !slices.Equal(e.to, m.Recipients) {
		t.Errorf("%v %s %v", e.utf8, e.from, e.to)
	}
	for line := range strings.SplitSeq(string(e.message), "\r\n") {
		if strings.Contains(line, "=?utf-8?b?") && len(line) > maxLine {
			t.Errorf("%q", line)
		}
	}
}

// TestBlindCopies: what is only in the envelope is in no header.
func TestBlindCopies(t *testing.T) {
	m := testContent
	m.To, m.Recipients = nil, []string{"blind@example.org"}
	got := mustCompose(t, testSender, m).message
	if p := parse(t, got); p.header.Get("To") != "undisclosed-recipients:;" || p.header.Get("Cc") != "" {
		t.Errorf("%v", p.header)
	}
	m.Cc = []string{"cc@example.org"}
	if p := parse(t, mustCompose(t, testSender, m).message); slices.Contains(p.names, "To") || p.header.Get("Cc") != "<cc@example.org>" {
		t.Errorf("%v", p.header)
	}
	if bytes.Contains(bytes.ToLower(got), []byte("bcc")) || bytes.Contains(got, []byte("blind")) {
		t.Errorf("%s", got)
	}
}

// TestSameBytes composes a mail as two attempts do, in two processes at different times.
func TestSameBytes(t *testing.T) {
	m := testContent
	m.Text, m.HTML, m.Attachments = "a", "<p>b", []emailprovider.Attachment{{Name: "c", ContentType: "a/b; z=1; y=2; x=3; w=4", Data: []byte("d")}}
	first := mustCompose(t, testSender, m).message
	m.Recipients = []string{"other@example.org"} // the first one has it
	for range 20 {
		again, err := New(Options{Now: func() time.Time { return time.Unix(1, 0) }}).compose(testSender, m)
		if err != nil || !bytes.Equal(first, again.message) {
			t.Fatalf("%v\n%s\n%s", err, first, again.message)
		}
	}
	m.MessageID = "two@example.com"
	if one, two := parse(t, first).borders, parse(t, mustCompose(t, testSender, m).message).borders; one[0] == two[0] || one[1] == two[1] || one[0] == one[1] {
		t.Errorf("%v %v", one, two)
	}
}

// TestNeedsUTF8 has one address outside ASCII in every place.
func TestNeedsUTF8(t *testing.T) {
	const address = "grüße@example.com"
	for name, set := range map[string]func(*emailprovider.SMTP, *emailprovider.Mail){
		"sender":    func(s *emailprovider.SMTP, _ *emailprovider.Mail) { s.SenderAddress = address },
		"to":        func(_ *emailprovider.SMTP, m *emailprovider.Mail) { m.To = []string{"a@b.c", address} },
		"cc":        func(_ *emailprovider.SMTP, m *emailprovider.Mail) { m.Cc = []string{address} },
		"recipient": func(_ *emailprovider.SMTP, m *emailprovider.Mail) { m.Recipients = []string{"a@b.c", address} },
		"reply":     func(_ *emailprovider.SMTP, m *emailprovider.Mail) { m.ReplyTo = address },
		"default":   func(s *emailprovider.SMTP, _ *emailprovider.Mail) { s.ReplyTo = address },
	} {
		from, m := testSender, testContent
		set(&from, &m)
		if !mustCompose(t, from, m).utf8 {
			t.Error(name)
		}
	}
	from, m := testSender, testContent
	from.ReplyTo, m.ReplyTo, m.Subject = address, "a@b.c", address
	if mustCompose(t, from, m).utf8 {
		t.Error("an address that is not used")
	}
}

// TestComposeRefuses puts what could do harm into every field. What is refused is not repeated.
func TestComposeRefuses(t *testing.T) {
	lines := []string{"a\r\nBcc: x@y.z", "a\nx@y.z", "a\rx@y.z", "\x00x@y.z", "x@y.z\u2028", "\u0085x@y.z", "\xffx@y.z", "\tx@y.z", "x@y.z\x7f"}
	addresses := []string{"x@y.z\r\nRCPT TO:<x@y.z>", "x@y.z> NOTIFY=NEVER", "x@y.z, x@y.z", "N <x@y.z>", `"a b"@y.z`, "x@y.z\n", "x\x00@y.z", "x@y..z"}
	names := append([]string{
		"", "x@y.z:", "x@y.z ", " x@y.z", "x@y.zü", strings.Repeat("x@y.z", 30), "Bcc", "bcc", "BCC", "To", "cc", "Date", "From", "Subject", "Reply-To", "Sender",
		"Message-Id", "MIME-version", "Content-Type", "content-transfer-encoding", "Content-X", "Resent-Bcc", "Return-Path", "Received", "DKIM-Signature",
		"Disposition-Notification-To",
	}, lines...)
	type field struct {
		step emailprovider.Step
		text string // that names it
		set  func(*emailprovider.SMTP, *emailprovider.Mail, string)
		bad  []string
	}
	for _, f := range []field{
		{emailprovider.StepFrom, "sender's address", func(s *emailprovider.SMTP, _ *emailprovider.Mail, v string) { s.SenderAddress = v }, addresses},
		{emailprovider.StepRecipient, "recipient's", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.Recipients = append(m.Recipients, v) }, append(addresses, "")},
		{emailprovider.StepData, "To", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.To = []string{"a@b.c", v} }, append(addresses, "")},
		{emailprovider.StepData, "Cc", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.Cc = []string{v} }, append(addresses, "")},
		{emailprovider.StepData, "reply-to", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.ReplyTo = v }, addresses},
		{emailprovider.StepData, "reply-to", func(s *emailprovider.SMTP, _ *emailprovider.Mail, v string) { s.ReplyTo = v }, addresses},
		{emailprovider.StepData, "sender's name", func(s *emailprovider.SMTP, _ *emailprovider.Mail, v string) { s.SenderName = v }, lines},
		{emailprovider.StepData, "subject", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.Subject = v }, lines},
		{emailprovider.StepData, "message id", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.MessageID = v }, append(lines, "", "x@y.z>", "x@y@z", "x y@z")},
		{emailprovider.StepData, "header", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) {
			m.Headers = []emailprovider.Header{{Name: "X-A", Value: "b"}, {Name: v, Value: "x@y.z"}}
		}, names},
		{emailprovider.StepData, "header", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) {
			m.Headers = []emailprovider.Header{{Name: "X-A", Value: v}}
		}, append(lines, "x@y.z "+strings.Repeat("x", 994))},
		{emailprovider.StepData, "attachment's name", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) {
			m.Attachments = []emailprovider.Attachment{{Name: v}}
		}, append(lines, strings.Repeat("x@y.z", 52))},
		{emailprovider.StepData, "attachment's content type", func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) {
			m.Attachments = []emailprovider.Attachment{{ContentType: v}}
		}, append(lines, "x@y.z", "text", "/x", "text/", "text/x y", "text/plain; x@y.z", "text/plain; a=b; a=c", "text/plain\r\nx: y", "text/plain; a=\"\x00\"",
			"message/rfc822", "multipart/mixed; boundary=x", "Message/External-Body", "text/plain; a="+strings.Repeat("x", 500))},
	} {
		for _, value := range f.bad {
			from, m := testSender, testContent
			f.set(&from, &m, value)
			e, err := composer.compose(from, m)
			if err == nil {
				t.Errorf("%s %q: accepted as\n%s", f.text, value, e.message)
				continue
			}
			shown := explain(t.Context(), err, &redactor{})
			if shown.Step != f.step || shown.Temporary || !strings.Contains(shown.Text, f.text) || strings.Contains(shown.Text, "x@y.z") {
				t.Errorf("%s %q: %+v", f.text, value, shown)
			}
		}
	}
	m := testContent
	m.Recipients = nil
	if _, err := composer.compose(testSender, m); err == nil {
		t.Error("no recipients")
	}
}

// FuzzCompose: whatever a mail says, a message that is made of it has exactly the headers, bodies and
// files that were asked for.
func FuzzCompose(f *testing.F) {
	for _, s := range []string{
		"a@b.c", "用户@例子.广告", `"a@b.c> NOTIFY=NEVER"@d.e`, "a@b.c\r\nRCPT TO:<x@y.z>", "a@[192.0.2.1]", "Name <a@b.c>", "a@b.c SIZE=1",
		"--=_a", "=?utf-8?q?a?=", "X-A", "List-Unsubscribe", "Bcc", "text/plain; a=b", "\r\n.\r\n", "ü \xff", strings.Repeat("a: ", 400), strings.Repeat("é ", 300),
	} {
		f.Add("a@b.c", "d@e.f", s, s, s, s, "X-B", s, "f.txt", "a/b", s)
		f.Add(s, s, s, s, s, s, s, s, s, s, s)
	}
	f.Fuzz(func(t *testing.T, from, to, name, subject, text, html, header, value, file, kind, data string) {
		smtp := emailprovider.SMTP{SenderAddress: from, SenderName: name, ReplyTo: to}
		m := emailprovider.Mail{
			MessageID: "a@b", Date: testContent.Date, To: []string{to, from}, Cc: []string{from}, Recipients: []string{to}, Subject: subject, Text: text, HTML: html,
			Headers: []emailprovider.Header{{Name: header, Value: value}},
		}
		if file+kind+data != "" {
			m.Attachments = []emailprovider.Attachment{{Name: file, ContentType: kind, Data: []byte(data)}}
		}
		e, err := composer.compose(smtp, m)
		if err != nil {
			return
		}
		for _, path := range append([]string{e.from}, e.to...) {
			if strings.ContainsAny(path, " <>\"\\,;()\r\n\x00\t") || strings.Contains(path, ":") && !strings.HasSuffix(path, "]") {
				t.Errorf("path %q", path)
			}
		}
		checkContentOf(t, m, e.message)
		checkHeadersOf(t, smtp, m, e.message)
	})
}

func checkHeadersOf(t *testing.T, from emailprovider.SMTP, m emailprovider.Mail, data []byte) {
	t.Helper()
	got := parse(t, data)
	want := []string{"Date", "Message-ID", "From", "To", "Cc", "Reply-To"}
	if m.Subject != "" {
		want = append(want, "Subject")
	}
	h := m.Headers[0]
	if strings.Trim(h.Value, " ") != "" {
		want = append(want, h.Name)
	}
	want = append(want, "MIME-Version", "Content-Type")
	if len(got.borders) == 0 {
		want = append(want, "Content-Transfer-Encoding")
	}
	if diff := cmp.Diff(want, got.names); diff != "" {
		t.Error(diff)
	}
	if subject := got.value(t, "Subject"); subject != m.Subject {
		t.Errorf("subject %q came back as %q", m.Subject, subject)
	}
	if address.IsASCII(h.Value) {
		words := strings.FieldsFunc(h.Value, func(r rune) bool { return r == ' ' })
		if value := got.header.Get(h.Name); value != strings.Join(words, " ") {
			t.Errorf("%q came back as %q", h.Value, value)
		}
	} else if value := got.value(t, h.Name); value != h.Value {
		t.Errorf("%q came back as %q", h.Value, value)
	}
	if list, err := got.header.AddressList("From"); err == nil {
		if len(list) != 1 || *list[0] != (mail.Address{Name: from.SenderName, Address: from.SenderAddress}) {
			t.Errorf("%q came back as %v", from.SenderName, list)
		}
	} else if address.IsASCII(from.SenderAddress) && !strings.Contains(from.SenderAddress, "[") { // net/mail has no literals
		t.Error(err)
	}
}

func BenchmarkCompose(b *testing.B) {
	line := strings.Repeat("A line of a mail as they are. ", 2) + "\n"
	for name, text := range map[string]string{
		"7bit":             strings.Repeat(line, 2<<10/len(line)),
		"quoted-printable": strings.Repeat(line, 2<<10/len(line)-1) + "Grüße\n",
		"base64":           strings.Repeat("世界你好", 2<<10/12),
	} {
		for _, html := range []string{"", "<p>" + text} {
			m := testContent
			m.Subject, m.Text, m.HTML = "Your password has changed", text, html
			b.Run(fmt.Sprintf("%s/html=%v", name, html != ""), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					mustCompose(b, testSender, m)
				}
			})
		}
	}
}
