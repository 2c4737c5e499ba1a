package delivery

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// parsed is a message as the standard library reads it.
type parsed struct {
	names   []string // of the headers, in their order
	header  mail.Header
	types   []string // of all parts, depth first
	bodies  map[string]string
	files   []emailprovider.Attachment
	borders []string // the boundaries
}

// parse holds a message to CRLF and line lengths, and reads it.
func parse(t testing.TB, data []byte) parsed {
	t.Helper()
	if !bytes.HasSuffix(data, []byte("\r\n")) {
		t.Fatalf("%q", data)
	}
	head, _, _ := strings.Cut(string(data), "\r\n\r\n")
	p := parsed{bodies: map[string]string{}}
	for line := range strings.SplitSeq(head, "\r\n") {
		if !strings.HasPrefix(line, " ") {
			name, _, ok := strings.Cut(line, ":")
			if !ok {
				t.Errorf("not a header: %q", line)
			}
			p.names = append(p.names, name)
		} else if strings.Trim(line, " \t") == "" {
			t.Error("a header with an empty line")
		}
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\r\n"), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line of %d bytes: %.100q", len(line), line)
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	p.header = m.Header
	p.read(t, m.Header.Get, m.Body)
	return p
}

func (p *parsed) read(t testing.TB, get func(string) string, r io.Reader) {
	t.Helper()
	mediaType, params, err := mime.ParseMediaType(get("Content-Type"))
	if err != nil {
		t.Fatalf("%v in %q", err, get("Content-Type"))
	}
	p.types = append(p.types, mediaType)
	if strings.HasPrefix(mediaType, "multipart/") {
		p.borders = append(p.borders, params["boundary"])
		for parts := multipart.NewReader(r, params["boundary"]); ; {
			part, err := parts.NextRawPart()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p.read(t, part.Header.Get, part)
		}
	}
	switch get("Content-Transfer-Encoding") {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "7bit":
	default:
		t.Errorf("encoding %q", get("Content-Transfer-Encoding"))
	}
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if disposition := get("Content-Disposition"); disposition != "" {
		kind, named, err := mime.ParseMediaType(disposition)
		if err != nil || kind != "attachment" {
			t.Errorf("%q: %v", disposition, err)
		}
		p.files = append(p.files, emailprovider.Attachment{Name: named["filename"], ContentType: get("Content-Type"), Data: body})
		return
	}
	if params["charset"] != "utf-8" {
		t.Errorf("charset %q", params["charset"])
	}
	p.bodies[mediaType] += string(body)
}

// value returns a header, decoded.
func (p *parsed) value(t testing.TB, name string) string {
	t.Helper()
	s, err := new(mime.WordDecoder).DecodeHeader(p.header.Get(name))
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return s
}

// asLines is what becomes of a text on its way.
func asLines(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n"), "\n", "\r\n")
	if s != "" && !strings.HasSuffix(s, "\r\n") {
		s += "\r\n"
	}
	return s
}
