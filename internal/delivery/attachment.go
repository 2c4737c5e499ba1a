package delivery

import (
	"errors"
	"mime"
	"strconv"
	"strings"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	// maxFileName is what common file systems take, in bytes.
	maxFileName = 255
	// maxContentType keeps a content type, which is not folded but once, well below hardLine.
	maxContentType = 500
)

func checkAttachment(a emailprovider.Attachment) error {
	switch _, ok := contentTypeOf(a); {
	case !isText(a.Name):
		return errors.New("an attachment's name has a control character or is not UTF-8")
	case len(a.Name) > maxFileName:
		return errors.New("an attachment's name is longer than 255 bytes")
	case !ok || !isText(a.ContentType):
		return errors.New("an attachment's content type is not the media type of a file")
	}
	return nil
}

// attachment writes the headers and the data of a file (RFC 2183).
func (w *writer) attachment(a emailprovider.Attachment) {
	contentType, _ := contentTypeOf(a)
	mediaType, params, more := strings.Cut(contentType, " ")
	w.begin("Content-Type")
	w.word(mediaType)
	if more {
		w.word(params)
	}
	w.end()
	w.begin("Content-Disposition")
	w.disposition(a.Name)
	w.end()
	w.field("Content-Transfer-Encoding", "base64")
	w.end()
	w.base64(a.Data)
}

// disposition adds the name of a file: plain if every reader will get that right, else as RFC 2231,
// sections 3 and 4 have it.
func (w *writer) disposition(name string) {
	if name == "" {
		w.word("attachment")
		return
	}
	w.word("attachment;")
	if len(name) <= maxLine/2 && foldable(name) && !strings.ContainsAny(name, `"\`) {
		w.word(`filename="`, name, `"`)
		return
	}
	pieces := extended(name)
	for i, piece := range pieces {
		switch {
		case len(pieces) == 1:
			w.word("filename*=", piece)
		case i < len(pieces)-1:
			w.word("filename*", strconv.Itoa(i), "*=", piece, ";")
		default:
			w.word("filename*", strconv.Itoa(i), "*=", piece)
		}
	}
}

// extended returns a text in pieces that fit in a line each, never splitting a character.
func extended(s string) (pieces []string) {
	const hexDigits, long = "0123456789ABCDEF", 48
	piece := []byte("utf-8''")
	for _, r := range s {
		if len(piece) > long {
			pieces, piece = append(pieces, string(piece)), nil
		}
		for _, c := range []byte(string(r)) {
			if isAttributeChar(c) {
				piece = append(piece, c)
			} else {
				piece = append(piece, '%', hexDigits[c>>4], hexDigits[c&15])
			}
		}
	}
	return append(pieces, string(piece))
}

// isAttributeChar is narrower than RFC 2231, section 7.
func isAttributeChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c) || c == '-' || c == '.' || c == '_'
}

// contentTypeOf returns the content type of a file as it is written, and whether it is one that a
// file in base64 may have: composite types may not (RFC 2045, section 6.4).
func contentTypeOf(a emailprovider.Attachment) (string, bool) {
	if a.ContentType == "" {
		return "application/octet-stream", true
	}
	mediaType, params, err := mime.ParseMediaType(a.ContentType)
	kind, _, ok := strings.Cut(mediaType, "/")
	if err != nil || !ok || kind == "message" || kind == "multipart" {
		return "", false
	}
	written := mime.FormatMediaType(mediaType, params)
	return written, written != "" && len(written) <= maxContentType
}
