package delivery_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mailkeep/mailkeep/internal/delivery"
	"github.com/mailkeep/mailkeep/internal/delivery/smtptest"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

var noon = time.Date(2026, 2, 3, 12, 0, 5, 0, time.UTC)

// send delivers one mail to a real server and returns what it got.
func send(t *testing.T, from emailprovider.SMTP, m emailprovider.Mail) smtptest.Mail {
	t.Helper()
	s := startServer(t, smtptest.Options{SMTPUTF8: true})
	from.Host = s.Addr()
	if err := delivery.New(delivery.Options{}).Deliver(t.Context(), emailprovider.Route{SMTP: &from}, m); err != nil {
		t.Fatalf("%+v %+v: %v", from, m, err)
	}
	got, err := s.Wait(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

func TestMessageAsItIs(t *testing.T) {
	got := send(t, emailprovider.SMTP{SenderAddress: "sender@example.com", SenderName: "Sender, Inc.", ReplyTo: "reply@example.com"}, testMail)
	want := strings.Join([]string{
		"Date: Tue, 03 Feb 2026 12:00:05 +0000",
		"Message-ID: <one@example.com>",
		`From: "Sender, Inc." <sender@example.com>`,
		"To: <rcpt@example.org>",
		"Reply-To: <reply@example.com>",
		"Subject: Hello",
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"Content-Transfer-Encoding: 7bit",
		"",
		"line one",
		".dot",
		"",
	}, "\r\n")
	if diff := cmp.Diff(want, string(got.Data)); diff != "" {
		t.Error(diff)
	}
	if got.From != "sender@example.com" || len(got.To) != 1 || got.To[0] != "rcpt@example.org" {
		t.Errorf("envelope %s %v", got.From, got.To)
	}
	bare := send(t, emailprovider.SMTP{SenderAddress: "s@example.com"}, emailprovider.Mail{
		MessageID: "a@b", Date: noon, To: []string{"r@example.com"}, Recipients: []string{"r@example.com"},
	})
	for _, header := range []string{"Reply-To", "Subject", "User-Agent", "X-Mailer"} {
		if strings.Contains(string(bare.Data), header+":") {
			t.Errorf("%s in %s", header, bare.Data)
		}
	}
}

var texts = []string{
	"Hello", "a b", "Grüße aus Köln", "世界你好", "🎉🎂 party 🎉", "=?utf-8?q?not_encoded?=", "two  spaces", " edge ",
	`quote " and \ backslash`, "comma, <angle> (paren) @at :colon;", "a.b", "x=?y",
	strings.Repeat("word ", 200) + "end", strings.Repeat("x", 1500), strings.Repeat("長", 400), strings.Repeat("👩‍👩‍👧‍👦", 40),
	"e\u0301 combining", "\u202eright to left", "mixed ASCII and ünïcödé words which go on for a while so that folding is needed somewhere",
}

// TestHeadersComeBack parses the message with the standard library and compares.
func TestHeadersComeBack(t *testing.T) {
	for _, text := range texts {
		from := emailprovider.SMTP{SenderAddress: "sender@example.com", SenderName: text}
		m := testMail
		m.Subject = text
		data := send(t, from, m).Data
		checkLines(t, data)
		parsed, err := mail.ReadMessage(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		sender, err := parsed.Header.AddressList("From")
		if err != nil {
			t.Fatalf("%q: %v in %q", text, err, parsed.Header.Get("From"))
		}
		if diff := cmp.Diff([]*mail.Address{{Name: text, Address: "sender@example.com"}}, sender); diff != "" {
			t.Error(diff)
		}
		for _, word := range regexp.MustCompile(`=\?utf-8\?b\?.*?\?=`).FindAllString(string(data), -1) {
			if part, err := new(mime.WordDecoder).Decode(word); err != nil || !utf8.ValidString(part) || len(word) > 75 {
				t.Errorf("encoded word %s: %q, %v", word, part, err)
			}
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
		if err != nil || subject != text {
			t.Errorf("subject %q came back as %q, %v", text, subject, err)
		}
		if date, err := parsed.Header.Date(); err != nil || !date.Equal(noon) {
			t.Errorf("date %v, %v", date, err)
		}
	}
}

func TestBodiesComeBack(t *testing.T) {
	bodies := append([]string{
		"", "\n", "no line end", "unix\nends\n", "old mac\rends\r", ".", "..\r\n.\r\n..", "a\r\n.\r\nQUIT\r\n", "\r\n\r\n",
		"trailing space \r\n", "tab\tand = sign", "From here", strings.Repeat("y", 2000), strings.Repeat("é", 2000),
		"one ü in a long ASCII text " + strings.Repeat("abc ", 100), "\x00\x01", "bad UTF-8 \xff",
		"\n.\nMAIL FROM:<x@y>\n", "\r\n.\nMAIL FROM:<x@y>\r\n", "\n.\r\n", "\r.\r",
	}, texts...)
	for _, body := range bodies {
		m := testMail
		m.Text = body
		data := send(t, emailprovider.SMTP{SenderAddress: "sender@example.com"}, m).Data
		checkLines(t, data)
		parsed, err := mail.ReadMessage(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		want := strings.NewReplacer("\r\n", "\r\n", "\n", "\r\n", "\r", "\r\n").Replace(body)
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if got := decode(t, parsed); got != want {
			t.Errorf("%.80q came back as %.80q (%s)", want, got, parsed.Header.Get("Content-Transfer-Encoding"))
		}
	}
}

func decode(t *testing.T, m *mail.Message) string {
	t.Helper()
	r := m.Body
	switch m.Header.Get("Content-Transfer-Encoding") {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// checkLines holds a message to CRLF, ASCII and the line length that everything can carry.
func checkLines(t *testing.T, data []byte) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\r\n"), "\r\n") {
		if len(line) > 76 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("line of %d bytes: %.100q", len(line), line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r > '~' || r < ' ' && r != '\t' }); i >= 0 {
			t.Errorf("not ASCII: %q", line)
		}
	}
}

// TestNothingIsInjected puts what SMTP and mail headers give meaning to into every field.
func TestNothingIsInjected(t *testing.T) {
	lines := []string{"a\r\nBcc: x@y.z", "a\nBcc: x@y.z", "a\rBcc: x@y.z", "a\r\n\r\nbody", "a\x00b", "a\u2028b", "a\u0085b", "a\xffb"}
	addresses := []string{
		"", "a", "a@", "@b.c", "a@b.c\r\nRCPT TO:<x@y.z>", "a@b.c> NOTIFY=NEVER", `"a@b.c> NOTIFY=NEVER"@d.e`, `"a b"@c.d`,
		"a@b.c, d@e.f", "Name <a@b.c>", "<a@b.c>", "a@b..c", "a@b.c SIZE=1", "a\x00@b.c", "@x.y:a@b.c", "a@b.c\n",
	}
	type attempt struct {
		step emailprovider.Step
		set  func(*emailprovider.SMTP, *emailprovider.Mail, string)
		from []string
	}
	for field, a := range map[string]attempt{
		"sender": {emailprovider.StepFrom, func(s *emailprovider.SMTP, _ *emailprovider.Mail, v string) { s.SenderAddress = v }, addresses},
		"to":     {emailprovider.StepRecipient, func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.Recipients = []string{v} }, addresses},
		"reply":  {emailprovider.StepData, func(s *emailprovider.SMTP, _ *emailprovider.Mail, v string) { s.ReplyTo = v }, addresses[1:]},
		"name":   {emailprovider.StepData, func(s *emailprovider.SMTP, _ *emailprovider.Mail, v string) { s.SenderName = v }, lines},
		"title":  {emailprovider.StepData, func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.Subject = v }, lines},
		"id": {emailprovider.StepData, func(_ *emailprovider.SMTP, m *emailprovider.Mail, v string) { m.MessageID = v },
			append([]string{"", "a", "@b", "a@", "a@b@c", "<a@b>", "a b@c", "a@b>\r\nX: y", "ä@b", strings.Repeat("a", 300) + "@b"}, lines...)},
	} {
		for _, value := range a.from {
			h := startHostile(t, smtptest.Script{})
			via, m := plainRoute(h.Addr()), testMail
			a.set(via.SMTP, &m, value)
			e := failed(t, delivery.New(delivery.Options{}).Deliver(t.Context(), via, m))
			if e.Step != a.step || e.Temporary || strings.Contains(e.Text, "x@y.z") {
				t.Errorf("%s %q: %+v", field, value, e)
			}
			if lines := h.Lines(); len(lines) != 0 {
				t.Errorf("%s %q: sent %q", field, value, lines)
			}
		}
	}
}

func TestSMTPUTF8(t *testing.T) {
	from, m := emailprovider.SMTP{SenderAddress: "grüße@例子.example"}, testMail
	m.To = []string{"用户@example.com"}
	m.Recipients = m.To
	got := send(t, from, m)
	if got.From != from.SenderAddress || got.To[0] != m.To[0] || !strings.Contains(string(got.Data), "To: <用户@example.com>\r\n") {
		t.Errorf("%s %v\n%s", got.From, got.To, got.Data)
	}
	s := startServer(t, smtptest.Options{})
	from.Host = s.Addr()
	e := failed(t, delivery.New(delivery.Options{}).Deliver(t.Context(), emailprovider.Route{SMTP: &from}, m))
	if e.Step != emailprovider.StepFrom || e.Temporary || !strings.Contains(e.Text, "SMTPUTF8") {
		t.Errorf("%+v", e)
	}
}
