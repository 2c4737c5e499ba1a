package delivery

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/racetest"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// login is a typical mail.
var login = emailprovider.Mail{
	MessageID: "7f3a@example.com", To: []string{"alexander7@example.org"}, Recipients: []string{"alexander7@example.org"},
	ReplyTo: "support@help.example.net", Subject: "Your login",
	Text: "Hello Alexander,\n\nyour one-time code 482913 is valid for ten minutes; the other is secretword99.\n" +
		"Somebody tried to sign in from 203.0.113.77. If you did not request this message, please contact\n" +
		"our server team: https://www.example.com/account/verify?token=qwzrtplkjhgf\n\nKind regards, Examplary Ltd.\n",
	HTML: `<html><style>p{color:#333;max-width:600px}</style><p>Hello Alexander,</p><p>your <b>one-time</b> code ` +
		`<td>5</td><td>5</td><td>1</td><td>7</td><td>7</td><td>2</td> verifies your email address &amp; two-factor authentication by caf&#233;77.</p></html>`,
	Headers:     []emailprovider.Header{{Name: "X-Ticket", Value: "Zebrafinch Köstlichkeit"}},
	Attachments: []emailprovider.Attachment{{Name: "cv.pdf", ContentType: "application/pdf", Data: []byte("%PDF-1.7 binary\x00stuff here")}, {Name: "notes.csv", ContentType: "text/csv", Data: []byte("a;7788;Quarterly")}},
	Args:        map[string]string{"order": "B-20931-X"},
}

var loginVia = emailprovider.Route{
	SMTP: &emailprovider.SMTP{SenderAddress: "noreply@example.com", Host: "smtp.relay.example:587"}, Secret: secret.New("c4n4ryPassw0rd"),
}

func quoteLogin(text string) string {
	return newRedactor(loginVia.Secret).about(loginVia, login).quote(text)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestQuote: what is useful stays, what is the mail's goes.
func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		`5.7.1 Message rejected as spam: Subject "Your login", body has "code 482913"`:                                      `5.7.1 Message rejected as spam: Subject "[redacted]", body has "code [redacted]"`,
		`{"value":"482913","b64":"WW91ciBvbmUtdGltZSBjb2RlIDQ4MjkxMw==","rev":"Your_one-time_code_482913_is_secretword99"}`: `{"value":"[redacted]","b64":"[redacted]","rev":"[redacted]"}`,
		"5.7.1 rejected: x482913y":                                      "5.7.1 rejected: x[redacted]y",
		"rejected: 48 29 13":                                            "rejected: 48 29 13", // spaces only count in encodings and long runs
		"rejected: SECRETWORD99, KÖSTLICHKEIT":                          "rejected: [redacted], [redacted]",
		"rejected: token=qwzrtplkjhgf":                                  "rejected: [redacted]",
		"rejected: o u r  o n e - t i m e  c o d e  4 8 2 9 1":          "rejected: [redacted]",
		"no mail to support@help.example.net here":                      "no mail to [redacted] here",
		"sign in from 203.0.113.77, not from 203.0.113.78":              "sign in from [redacted], not from 203.0.113.78",
		"retword99x word99 is bad":                                      "retword99x [redacted] is bad", // one ends as the other begins
		"551772 or café77 is bad":                                       "[redacted] or [redacted] is bad",
		"600 is bad":                                                    "[redacted] is bad",
		"file cv.pdf, 7788, B-20931-X":                                  "file [redacted], [redacted], [redacted]",
		"code=%34%38%32%39%31%33 is bad":                                "code=[redacted] is bad",
		"the =34=38=32=39=31=33 was bad":                                "the [redacted] was bad",
		`the \u0034\u0038\u0032\u0039\u0031\u0033 was bad`:              "the [redacted] was bad",
		"the &#52;&#56;&#50;&#57;&#49;&#51; was bad":                    "the [redacted] was bad",
		"code " + b64("482913") + " is bad":                             "code [redacted] is bad",
		"code " + hex.EncodeToString([]byte("482913")):                  "code [redacted]",
		"=?utf-8?B?" + b64("ello Alexander") + "?= is bad":              "=?utf-8?B?[redacted]?= is bad",
		"data " + b64(" binary\x00stuff here"):                          "data [redacted]",
		"two: " + b64("time code 4")[:6] + " " + b64("time code 4")[6:]: "two: [redacted]",
		"a secret c4n4ryPassw0rd and 482913":                            "a secret [redacted] and [redacted]",
	} {
		if got := quoteLogin(text); got != want {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
	}
}

// TestQuoteBenign: what servers usually say stays as it is.
func TestQuoteBenign(t *testing.T) {
	for _, text := range []string{
		"5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces.",
		"5.1.1 <alexander7@example.org>: Recipient address rejected: User unknown in virtual mailbox table",
		"4.2.0 <alexander7@example.org>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/example.org.html",
		"5.7.1 Service unavailable; Client host [198.51.100.23] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/198.51.100.23",
		"4.7.0 [198.51.100.23 15] Our system has detected an unusual rate of unsolicited mail originating from your IP address.",
		"5.7.26 Unauthenticated email from example.com is not accepted due to domain's DMARC policy. d2e1a72fcca58si1234567b3a.42 - gsmtp",
		"5.2.2 The email account that you tried to reach is over quota. alexander7 mailbox full",
		"5.7.0 Must issue a STARTTLS command first",
		"5.7.57 Client not authenticated to send mail. Error: 535 5.7.3 Authentication unsuccessful [AM0PR05CA0012.eurprd05.prod.outlook.com]",
		"4.3.2 Service not available, closing transmission channel; try again later",
		"5.3.4 Message size exceeds fixed maximum message size (10485760)",
		"5.7.600 Access denied after 550 5.7.77",
		"5.7.606 Access denied, banned sending IP [198.51.100.23]; contact your administrator",
		"5.7.1 Relaying denied. Proper authentication required. noreply@example.com",
		"5.4.1 Recipient address rejected: Access denied. AS(201806281) [DB5EUR03FT012.eop-EUR03.prod.protection.outlook.com]",
		"4.4.2 mx1.example.org Error: timeout exceeded; 451 4.7.1 greylisting in action, please come back in 00:05:00",
		"5.6.0 Message contains invalid headers; authentication required",
		`{"error":"invalid_request","message":"The server is temporarily unavailable","status":422}`,
		"<html><head><title>403 Forbidden</title></head><body>Request blocked by security policy</body></html>",
	} {
		if got := quoteLogin(text); got != cut(text) {
			t.Errorf("%q\n got %q", text, got)
		}
	}
}

// codeForms are what a server may make of a code, alone or with what is around it.
var codeForms = map[string]func(string) string{
	"raw":        func(s string) string { return s },
	"quoted":     func(s string) string { b, _ := json.Marshal(s); return string(b) },
	"base64":     b64,
	"base64 +1":  func(s string) string { return b64(" " + s) },
	"base64 +2":  func(s string) string { return b64("\n\n" + s + " ") },
	"base64 url": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"hex":        func(s string) string { return hex.EncodeToString([]byte(s)) },
	"HEX":        func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"query":      url.QueryEscape,
	"html":       html.EscapeString,
	"percent":    func(s string) string { return eachByte("%%%02X", s) },
	"printable":  func(s string) string { return eachByte("=%02X", s) },
	"Go":         func(s string) string { return eachByte(`\x%02x`, s) },
	"JSON":       func(s string) string { return eachRune(`\u%04x`, s) },
	"entities":   func(s string) string { return eachRune("&#%d;", s) },
	"utf-16":     func(s string) string { return b64(eachByte("%c\x00", s)) },
}

// TestQuoteKeepsNoCode: no code of six digits survives, whatever is around it.
func TestQuoteKeepsNoCode(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		code := fmt.Sprintf("%06d", random.IntN(1e6))
		m := login
		m.Subject, m.Text, m.HTML = "Code", "Hi Bo, your code is "+code+" for today.", ""
		clean := newRedactor(loginVia.Secret).about(loginVia, m)
		clean.mail.searched = -1 << 30
		for name, form := range codeForms {
			for _, part := range []string{code, "is " + code + " for"} {
				encoded := form(part)
				for _, around := range []string{"%s", "no: %s!", `{"a":"%s"}`, "550 spam (%s) found", "x=%s&y=1", "<%s>"} {
					got := clean.quote(fmt.Sprintf(around, encoded))
					if strings.Contains(got, form(code)) || strings.Contains(got, encoded) || !strings.Contains(got, redacted) {
						t.Errorf("%s: %q of %q", name, got, fmt.Sprintf(around, encoded))
					}
				}
			}
		}
	}
}

// hostileText is full of what is looked for.
func hostileText(digits string) string {
	var b strings.Builder
	for i := 0; b.Len() < maxRead; i++ {
		fmt.Fprintf(&b, "%s%d_ab%d-%s %%41%%42 ", digits[:i%7], i, i*7, b64(strings.Repeat(fmt.Sprint(i), 5)))
	}
	return b.String()[:maxRead]
}

// TestQuoteIsBounded has a long mail and texts that are as bad as they can be: none takes much longer than a
// harmless one.
func TestQuoteIsBounded(t *testing.T) {
	const size, most, limit = 2 << 20, 4, 200 * time.Millisecond * racetest.Slower
	quote := func(mail, text string) time.Duration {
		m := login
		m.Text = mail
		begun := time.Now()
		newRedactor(loginVia.Secret).about(loginVia, m).quote(text)
		return time.Since(begun)
	}
	random := make([]byte, size*3/4)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	digits := strings.Repeat("0123456789", size/10)
	for name, c := range map[string]struct{ mail, text string }{
		"digits":    {digits, hostileText(digits)},
		"same":      {strings.Repeat("1", size), strings.Repeat("1", maxRead)},
		"short":     {digits, strings.Repeat("12 ab3-4_5678 ", maxRead/14)},
		"base64":    {b64(string(random)), b64(string(random))[:maxRead]},
		"in base64": {digits, b64(digits[:maxRead*3/4])},
		"escapes":   {digits, strings.Repeat("%31&#50;\\u0033", maxRead/14)},
		"letters":   {strings.Repeat("äöüßéèñç", size/16), strings.Repeat("äÖüßéÈñç-", maxRead/17)},
		"all bytes": {string(random), string(random[:maxRead])},
		"addresses": {strings.Repeat("a@b.c ", size/6), strings.Repeat("a@b.c@", maxRead/6)},
	} {
		best, harmless := time.Hour, time.Hour
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tries := uint64(0)
		for ; tries < 5 && (tries == 0 || best > most*harmless || harmless > limit); tries++ { // the machine may be busy
			harmless = min(harmless, quote(c.mail, strings.Repeat("try later ", maxRead/10)))
			best = min(best, quote(c.mail, c.text))
		}
		runtime.ReadMemStats(&after)
		grown := (after.TotalAlloc - before.TotalAlloc) / (2 * tries) // of a quote
		t.Logf("%s: %v, harmless %v, %d KiB", name, best, harmless, grown>>10)
		if best > most*harmless || harmless > limit || grown > 16<<20 {
			t.Errorf("%s: took %v, a harmless text %v, and %d bytes", name, best, harmless, grown)
		}
	}
}

// TestQuoteManyTexts: of a long mail not every text is worth the time, and none of them is then shown.
func TestQuoteManyTexts(t *testing.T) {
	m := login
	m.Text += strings.Repeat("x", 2<<20)
	clean := newRedactor(loginVia.Secret).about(loginVia, m)
	shown := 0
	for i := range 50 {
		got := clean.quote(fmt.Sprintf("rejected %d: 482913", i))
		if got == fmt.Sprintf("rejected %d: [redacted]", i) {
			shown++
		} else if got != redacted {
			t.Errorf("%q", got)
		}
	}
	if shown != maxSearched/(2<<20)-1 {
		t.Errorf("%d shown", shown)
	}
	if got := clean.quote("rejected 0: 482913"); got != "rejected 0: [redacted]" {
		t.Errorf("%q", got) // known by now
	}
}

// TestExplainQuotes: replies are quoted; what we say ourselves is not, whatever the mail says.
func TestExplainQuotes(t *testing.T) {
	m := login
	m.Text = "an address has letters outside ASCII and 482913"
	clean := newRedactor(loginVia.Secret).about(loginVia, m)
	for _, c := range []struct {
		err  error
		want string
	}{
		{&replyError{reply{550, []string{"5.7.1 no", "482913"}}}, "5.7.1 no [redacted]"},
		{refused(emailprovider.StepFrom, "an address has letters outside ASCII"), "an address has letters outside ASCII"},
		{errors.New("482913"), "network error"},
	} {
		for _, step := range emailprovider.Steps() {
			if e := explain(t.Context(), at(step, c.err), clean); e.Text != c.want {
				t.Errorf("%s: %q", step, e.Text)
			}
		}
	}
	a := answer{http.StatusForbidden, strings.Repeat("482913 ", 500)}
	if e := a.failure(clean); len(e.Text) > maxShown || strings.Contains(e.Text, "482913") || short(e) != "post 403 true" {
		t.Errorf("%+v", e)
	}
}

// FuzzQuote: whatever is around it, a code is not shown, and what is shown is short and printable.
func FuzzQuote(f *testing.F) {
	f.Add("550 no: ", "!", uint32(482913))
	f.Add("\x00user\xff", "=", uint32(1))
	f.Add("https://www.example.com/", "@example.org", uint32(593014))
	f.Fuzz(func(t *testing.T, before, after string, n uint32) {
		code := fmt.Sprintf("%06d", n%1e6)
		m := login
		m.Text = "Your code: " + code
		clean := newRedactor(loginVia.Secret).about(loginVia, m)
		for name, form := range codeForms {
			text := before + " " + form(code) + " " + after
			shown := clean.quote(text)
			if len(shown) > maxShown || strings.ContainsFunc(shown, isControl) {
				t.Fatalf("%q", shown)
			}
			if len(text) <= maxRead && strings.Contains(shown, form(code)) && !strings.Contains(before+after, form(code)) {
				t.Fatalf("%s: %q", name, shown)
			}
		}
	})
}
