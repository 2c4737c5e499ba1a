package delivery

import (
	"cmp"
	"strings"
	"time"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// compile returns a mail as a message (RFC 5322) with CRLF line ends: the same bytes at every call.
// All values have been checked. The order of the headers is fixed. Blind copies are in none.
func compile(from emailprovider.SMTP, mail emailprovider.Mail) []byte {
	w := writer{b: make([]byte, 0, roomFor(mail))}
	w.add("Date: ")
	w.b = mail.Date.UTC().AppendFormat(w.b, time.RFC1123Z)
	w.end()
	w.add("Message-ID: <", mail.MessageID, ">")
	w.end()
	w.begin("From")
	w.phrase(from.SenderName)
	w.word("<", from.SenderAddress, ">")
	w.end()
	w.destinations(mail)
	if replyTo := cmp.Or(mail.ReplyTo, from.ReplyTo); replyTo != "" {
		w.addresses("Reply-To", replyTo)
	}
	if mail.Subject != "" {
		w.begin("Subject")
		w.text(mail.Subject)
		w.end()
	}
	for _, h := range mail.Headers {
		w.further(h)
	}
	w.field("MIME-Version", "1.0")
	w.content(mail)
	return w.b
}

// roomFor guesses how long the message will be, a bit too much.
func roomFor(mail emailprovider.Mail) int {
	n := 1024 + (len(mail.Text)+len(mail.HTML))*9/8 + 64*(len(mail.To)+len(mail.Cc)+len(mail.Headers))
	for _, a := range mail.Attachments {
		n += len(a.Data)/maxChunk*(maxLine+2) + 512
	}
	return n
}

// destinations writes To and Cc. A mail with blind copies only has the empty group that RFC 5322,
// appendix A.1.3 shows, since mail without any destination is taken for junk.
func (w *writer) destinations(mail emailprovider.Mail) {
	if len(mail.To)+len(mail.Cc) == 0 {
		w.field("To", "undisclosed-recipients:;")
	}
	if len(mail.To) > 0 {
		w.addresses("To", mail.To...)
	}
	if len(mail.Cc) > 0 {
		w.addresses("Cc", mail.Cc...)
	}
}

func (w *writer) addresses(name string, list ...string) {
	w.begin(name)
	for i, address := range list {
		if i < len(list)-1 {
			w.word("<", address, ">,")
		} else {
			w.word("<", address, ">")
		}
	}
	w.end()
}

// further writes a header that the mail brings. ASCII stays as it is, since most of these headers
// have a syntax of their own; the rest can only be text. There are no empty headers.
func (w *writer) further(h emailprovider.Header) {
	if strings.Trim(h.Value, " ") == "" {
		return
	}
	w.begin(h.Name)
	if address.IsASCII(h.Value) {
		w.words(h.Value)
	} else {
		w.encodedWords(h.Value)
	}
	w.end()
}
