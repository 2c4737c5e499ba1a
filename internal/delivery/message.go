package delivery

import (
	"bytes"
	"encoding/base64"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxLine is the length of a line with an encoded word (RFC 2047, section 2), without CRLF; for
	// others RFC 5322, section 2.1.1 recommends two more.
	maxLine = 76
	// maxEncoded is how many bytes of text go into one encoded word, so that it has 64 characters
	// and fits behind the name of any header.
	maxEncoded = 39
)

// message is what a mail says. All values have been checked.
type message struct {
	date      time.Time
	id        string
	fromName  string
	from, to  string
	replyTo   string
	subject   string
	plainText string
}

// bytes returns the message (RFC 5322) with CRLF line ends. The order of the headers is fixed.
func (m message) bytes() []byte {
	var b bytes.Buffer
	field(&b, "Date", m.date.UTC().Format(time.RFC1123Z))
	field(&b, "Message-ID", "<"+m.id+">")
	field(&b, "From", mailbox(m.fromName, m.from))
	field(&b, "To", mailbox("", m.to))
	if m.replyTo != "" {
		field(&b, "Reply-To", mailbox("", m.replyTo))
	}
	if m.subject != "" {
		field(&b, "Subject", unstructured(m.subject))
	}
	field(&b, "MIME-Version", "1.0")
	writePart(&b, "text/plain", m.plainText)
	return b.Bytes()
}

// field writes a header, folded before the words that would make a line too long.
func field(b *bytes.Buffer, name, value string) {
	line := name + ":"
	for word := range strings.SplitSeq(value, " ") {
		if len(line)+1+len(word) > maxLine && line != name+":" {
			b.WriteString(line + "\r\n")
			line = ""
		}
		line += " " + word
	}
	b.WriteString(line + "\r\n")
}

func mailbox(name, address string) string {
	switch {
	case name == "":
		return "<" + address + ">"
	case foldable(name):
		quoted := (&mail.Address{Name: name, Address: "x@y"}).String()
		return strings.TrimSuffix(quoted, "<x@y>") + "<" + address + ">"
	}
	return encodedWords(name) + " <" + address + ">"
}

func unstructured(s string) string {
	if foldable(s) {
		return s
	}
	return encodedWords(s)
}

// foldable reports whether a text comes back as it was from a folded header without being encoded:
// visible ASCII in short words with one space between, and nothing that looks like an encoded word.
func foldable(s string) bool {
	if !isASCII(s) || strings.Contains(s, "=?") {
		return false
	}
	for word := range strings.SplitSeq(s, " ") {
		if word == "" || len(word) > maxLine/2 {
			return false
		}
	}
	return true
}

// encodedWords encodes a text as RFC 2047, section 4.1 has it, never splitting a character.
func encodedWords(s string) string {
	var words []string
	for s != "" {
		n := min(len(s), maxEncoded)
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s = s[n:]
	}
	return strings.Join(words, " ")
}

// writePart writes the headers and the body of a part, in the shortest encoding that any server can
// carry. Line ends become CRLF, and the last line gets one.
func writePart(b *bytes.Buffer, mediaType, text string) {
	text = strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(text)
	if text != "" && !strings.HasSuffix(text, "\r\n") {
		text += "\r\n"
	}
	encoding := encodingFor(text)
	field(b, "Content-Type", mediaType+"; charset=utf-8")
	field(b, "Content-Transfer-Encoding", encoding)
	b.WriteString("\r\n")
	switch encoding {
	case "base64":
		for chunk := range slices.Chunk([]byte(text), maxLine/4*3) {
			b.WriteString(base64.StdEncoding.EncodeToString(chunk) + "\r\n")
		}
	case "quoted-printable":
		w := quotedprintable.NewWriter(b)
		_, _ = w.Write([]byte(text)) // a buffer takes everything
		_ = w.Close()
	default:
		b.WriteString(text)
	}
}

// encodingFor takes base64 over quoted-printable once more than a sixth of the bytes need escaping:
// an escape costs two bytes, base64 a third.
func encodingFor(text string) string {
	escapes, column, plain := 0, 0, true
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\n':
			column = 0
			continue
		case c == '\r':
			continue
		case c >= ' ' && c <= '~' || c == '\t':
			column++
		default:
			plain = false
			escapes++
		}
		plain = plain && column <= maxLine
	}
	switch {
	case plain:
		return "7bit"
	case escapes > len(text)/6:
		return "base64"
	}
	return "quoted-printable"
}
