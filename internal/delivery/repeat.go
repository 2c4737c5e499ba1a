package delivery

import (
	"html"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	// maxSearched bounds the bytes of a mail that are gone through for all that servers say of it.
	// What they say beyond that is not shown: it takes megabytes and several different texts.
	maxSearched = 16 << 20
	// minWhole is how long a subject or a file name is that is looked for as a whole, in bytes.
	minWhole = 4
)

// content is what a mail says. Servers repeat that: filters of spam what has put them off, validators
// of JSON what they have read. What a server has said is kept for longer than the mail, in the clear,
// and shown to people who may not read the mail.
type content struct {
	via      emailprovider.Route
	mail     emailprovider.Mail
	searched int               // how many bytes
	before   map[string][]bool // what repeats has returned; nil before it was asked
	known    []string          // addresses and domains, which may be repeated; in lower case
	names    map[string]bool   // the words in these
}

// about returns a redactor whose quote also removes what is repeated of a mail. It costs nothing until
// there is something to quote.
func (r *redactor) about(via emailprovider.Route, mail emailprovider.Mail) *redactor {
	return &redactor{secrets: r.secrets, mail: &content{via: via, mail: mail}}
}

// begin notes what may be repeated.
func (c *content) begin() {
	c.before, c.names = map[string][]bool{}, map[string]bool{}
	addresses := slices.Concat(c.mail.Recipients, c.mail.To, c.mail.Cc)
	if c.via.SMTP != nil {
		host, _, _ := strings.Cut(c.via.SMTP.Host, ":")
		addresses = append(addresses, c.via.SMTP.SenderAddress, "@"+host)
	}
	for _, address := range addresses {
		address = lowerASCII(address)
		c.known = append(c.known, address, address[strings.LastIndexByte(address, '@')+1:])
		for i, j := range spans(address, inWord) {
			c.names[address[i:j]] = true
		}
	}
	slices.SortFunc(c.known, func(a, b string) int { return len(b) - len(a) }) // the longest first
}

// repeats marks the bytes of a text that are the mail's: words that tell something (see telling), runs
// of minRun bytes in a row, the subject and the names of files as they are, and all of that encoded.
func (c *content) repeats(text string) []bool {
	if c.before == nil {
		c.begin()
	}
	if marks, ok := c.before[text]; ok {
		return marks
	}
	marks := make([]bool, len(text))
	c.before[text] = marks
	s := newSearch()
	isNUL := func(b byte) bool { return b == 0 } // which is half of UTF-16, and what hide leaves
	plain := plainView(text).without(isNUL)
	read := unescapeView(plain).without(isNUL)
	c.ask(s, plain)
	if len(read.text) != len(plain.text) {
		c.ask(s, read)
	}
	for _, v := range decodings(read) {
		s.ask(v, v.lower(), minCodedDigits, true)
	}
	if c.searched += c.size(); c.searched > maxSearched || !s.ready() {
		mark(marks, 0, len(marks))
		return marks
	}
	c.tell(s)
	coded := make([]bool, len(text))
	s.found(marks, coded)
	spread(text, coded)
	for i := range marks {
		marks[i] = marks[i] || coded[i]
	}
	c.markWhole(text, plain, marks)
	c.markWhole(text, read, marks)
	return marks
}

// ask asks for what is in a text, but for what may be repeated.
func (c *content) ask(s *search, v view) {
	s.ask(v, c.hide(s, v), minDigits, false)
}

// size is how many bytes tell goes through.
func (c *content) size() int {
	n := len(c.mail.Subject) + len(c.mail.Text) + 2*len(c.mail.HTML)
	for _, h := range c.mail.Headers {
		n += len(h.Value)
	}
	for _, a := range c.mail.Attachments {
		n += len(a.Data)
	}
	for _, arg := range c.mail.Args {
		n += len(arg)
	}
	return n
}

// tell has a search go through the mail.
func (c *content) tell(s *search) {
	parts := []string{c.mail.Subject, c.mail.Text, c.mail.HTML, c.mail.ReplyTo}
	for _, h := range c.mail.Headers {
		parts = append(parts, h.Value)
	}
	for _, arg := range c.mail.Args {
		parts = append(parts, arg)
	}
	for _, a := range c.mail.Attachments {
		if parts = append(parts, a.Name); isTextual(a.ContentType) {
			parts = append(parts, string(a.Data))
		} else {
			s.readRuns(a.Data)
		}
	}
	for _, part := range parts {
		s.read(part)
		s.read("\n")
	}
	for rest := c.mail.HTML; rest != ""; { // as it is read, without the tags
		var text string
		text, rest, _ = strings.Cut(rest, "<")
		s.read(html.UnescapeString(text))
		_, rest, _ = strings.Cut(rest, ">")
	}
}

// isTextual reports whether files of a type have words.
func isTextual(contentType string) bool {
	t, _, _ := mime.ParseMediaType(contentType)
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "json") || strings.HasSuffix(t, "xml")
}

// markWhole marks what is too short or too plain for anything else, but is the subject or the name of
// a file.
func (c *content) markWhole(text string, v view, marks []bool) {
	tight := v.tight(v.lower())
	for _, whole := range c.wholes() {
		for i := 0; ; {
			at := strings.Index(string(tight.text[i:]), whole)
			if at < 0 {
				break
			}
			from, to := tight.from[i+at], tight.to[i+at+len(whole)-1]
			before, _ := utf8.DecodeLastRuneInString(text[:from])
			after, _ := utf8.DecodeRuneInString(text[to:])
			if !inWord(before) && !inWord(after) {
				mark(marks, from, to)
			}
			i += at + len(whole)
		}
	}
}

func (c *content) wholes() (all []string) {
	names := []string{c.mail.Subject}
	for _, a := range c.mail.Attachments {
		names = append(names, a.Name)
	}
	for _, name := range names {
		v := squeeze(name)
		if whole := string(v.tight(v.lower()).text); len(whole) >= minWhole && !vocabulary[whole] {
			all = append(all, whole)
		}
	}
	return all
}
