package delivery

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"mime/quotedprintable"
	"strings"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// maxChunk is how many bytes a line of base64 has.
const maxChunk = maxLine / 4 * 3

// content writes the Content headers of the message and its body (RFC 2046).
func (w *writer) content(mail emailprovider.Mail) {
	if len(mail.Attachments) == 0 {
		w.body(mail)
		return
	}
	parts := w.multipart("mixed", mail.MessageID)
	if mail.Text != "" || mail.HTML != "" {
		parts.next()
		w.body(mail)
	}
	for _, a := range mail.Attachments {
		parts.next()
		w.attachment(a)
	}
	parts.end()
}

// body writes what there is to read: with both text and HTML, the reader shows the last it can
// (RFC 2046, section 5.1.4).
func (w *writer) body(mail emailprovider.Mail) {
	switch {
	case mail.HTML == "":
		w.part("text/plain", mail.Text)
	case mail.Text == "":
		w.part("text/html", mail.HTML)
	default:
		parts := w.multipart("alternative", mail.MessageID)
		parts.next()
		w.part("text/plain", mail.Text)
		parts.next()
		w.part("text/html", mail.HTML)
		parts.end()
	}
}

// boundaryMark begins every boundary. Neither quoted-printable nor base64 can contain it (RFC 2045,
// section 6.7), and text with it is not sent as it is.
const boundaryMark = "=_"

// nested is a part that has parts.
type nested struct {
	w        *writer
	boundary string
	started  bool
}

// multipart writes the header of a multipart. The boundary differs from message to message, so that
// one can be in another unchanged.
func (w *writer) multipart(subtype, messageID string) *nested {
	hash := sha256.Sum256([]byte(messageID))
	boundary := boundaryMark + subtype[:1] + hex.EncodeToString(hash[:12])
	w.begin("Content-Type")
	w.word("multipart/", subtype, ";")
	w.word(`boundary="`, boundary, `"`)
	w.end()
	w.end()
	return &nested{w: w, boundary: boundary}
}

// next begins the next part. The line end before a boundary belongs to it.
func (n *nested) next() {
	if n.started {
		n.w.end()
	}
	n.started = true
	n.w.add("--", n.boundary)
	n.w.end()
}

func (n *nested) end() {
	n.w.end()
	n.w.add("--", n.boundary, "--")
	n.w.end()
}

// part writes the headers and the text of a part, in the shortest encoding that any server can
// carry. Line ends become CRLF, and the last line gets one.
func (w *writer) part(mediaType, text string) {
	encoding := encodingFor(text)
	w.add("Content-Type: ", mediaType, "; charset=utf-8")
	w.end()
	w.field("Content-Transfer-Encoding", encoding)
	w.end()
	ended := text == "" || text[len(text)-1] == '\n' || text[len(text)-1] == '\r'
	switch encoding {
	case "base64":
		plain := writer{b: make([]byte, 0, len(text)+len(text)/16)}
		plain.lines(text)
		if !ended {
			plain.end()
		}
		w.base64(plain.b)
		return
	case "quoted-printable":
		q := quotedprintable.NewWriter(w) // which makes line ends CRLF
		_, _ = q.Write([]byte(text))      // a writer takes everything
		_ = q.Close()
	default:
		w.lines(text)
	}
	if !ended {
		w.end()
	}
}

// lines writes a text as it is, but for the line ends.
func (w *writer) lines(text string) {
	for line := range strings.Lines(text) {
		line, ended := strings.CutSuffix(line, "\n")
		if ended {
			line = strings.TrimSuffix(line, "\r")
		}
		for {
			before, after, found := strings.Cut(line, "\r")
			w.add(before)
			if !found {
				break
			}
			w.end()
			line = after
		}
		if ended {
			w.end()
		}
	}
}

func (w *writer) base64(data []byte) {
	for len(data) > 0 {
		n := min(len(data), maxChunk)
		w.b = base64.StdEncoding.AppendEncode(w.b, data[:n])
		w.end()
		data = data[n:]
	}
}

// encodingFor takes base64 over quoted-printable once more than a sixth of the bytes need escaping:
// an escape costs two bytes, base64 a third.
func encodingFor(text string) string {
	escapes, start, longest := 0, 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c >= ' ' && c <= '~' || c == '\t':
		case c == '\n' || c == '\r':
			longest, start = max(longest, i-start), i+1
		default:
			escapes++
		}
	}
	switch longest = max(longest, len(text)-start); {
	case escapes > len(text)/6:
		return "base64"
	case escapes > 0 || longest > maxLine || strings.Contains(text, boundaryMark):
		return "quoted-printable"
	}
	return "7bit"
}
