package outbox

import (
	"mime"
	"net/textproto"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
	"github.com/mailkeep/mailkeep/internal/fault"
)

// Bounds of a draft.
const (
	MaxRecipients  = 50
	MaxBodies      = 512 << 10 // bytes of text and HTML together
	MaxAttachments = 20
	MaxAttached    = 1 << 20 // bytes of all attachments together
	MaxHeaders     = 20
	MaxLifetime    = 30 * 24 * time.Hour

	maxSubject     = 2000 // bytes, which 500 characters can't exceed
	maxHeaderValue = 900  // bytes, so that a line keeps to RFC 5322, section 2.1.1
	maxName        = 255
)

// Draft is a mail as a caller gives it. The sender is the provider's.
type Draft struct {
	Caller         string // who sends it: nobody learns from an idempotency key what another one has sent
	To, Cc, Bcc    []string
	ReplyTo        string // the provider's if empty
	Subject        string
	Text           string
	HTML           string
	Headers        []emailprovider.Header
	Attachments    []emailprovider.Attachment
	IdempotencyKey string
	ExpiresIn      time.Duration // the service's default if 0
	Tag            string
}

func invalid(format string, args ...any) error {
	return fault.Newf(fault.InvalidArgument, "MAILKEEP-VALUE", format, args...)
}

// check returns who gets the mail, or what is wrong with the draft. Addresses are trimmed; one that
// is named twice gets the mail once.
func (d *Draft) check() ([]Recipient, error) {
	recipients, err := d.recipients()
	if err != nil {
		return nil, err
	}
	d.ReplyTo = strings.TrimSpace(d.ReplyTo)
	if d.ReplyTo != "" {
		if err := address.Check(d.ReplyTo); err != nil {
			return nil, invalid("reply_to %s", err)
		}
	}
	for _, line := range []struct {
		field, value string
		limit        int
	}{
		{"subject", d.Subject, maxSubject},
		{"tag", d.Tag, maxName * utf8.UTFMax},
		{"idempotency_key", d.IdempotencyKey, maxName * utf8.UTFMax},
	} {
		if !isLine(line.value, line.limit) {
			return nil, invalid("%s is too long, contains control characters or is not UTF-8", line.field)
		}
	}
	if d.ExpiresIn < 0 || d.ExpiresIn > MaxLifetime || d.ExpiresIn > 0 && d.ExpiresIn < time.Second {
		return nil, invalid("expires_in must be from one second to %d days", MaxLifetime/(24*time.Hour))
	}
	if err := d.checkBodies(); err != nil {
		return nil, err
	}
	if err := d.checkHeaders(); err != nil {
		return nil, err
	}
	return recipients, d.checkAttachments()
}

// trimmed returns the texts without the space around them.
func trimmed(texts []string) (all []string) {
	for _, s := range texts {
		all = append(all, strings.TrimSpace(s))
	}
	return all
}

func (d *Draft) recipients() ([]Recipient, error) {
	d.To, d.Cc, d.Bcc = trimmed(d.To), trimmed(d.Cc), trimmed(d.Bcc)
	if n := len(d.To) + len(d.Cc) + len(d.Bcc); n == 0 || n > MaxRecipients {
		return nil, invalid("to, cc and bcc must have 1 to %d addresses in all", MaxRecipients)
	}
	var all []Recipient
	for _, list := range []struct {
		kind      RecipientKind
		addresses []string
	}{{To, d.To}, {Cc, d.Cc}, {Bcc, d.Bcc}} {
		for i, a := range list.addresses {
			if err := address.Check(a); err != nil {
				return nil, invalid("%s[%d] %s", list.kind, i, err)
			}
			if !slices.ContainsFunc(all, func(r Recipient) bool { return r.Address == a }) {
				all = append(all, Recipient{Address: a, Kind: list.kind, State: Pending})
			}
		}
	}
	return all, nil
}

func (d *Draft) checkBodies() error {
	switch {
	case d.Text == "" && d.HTML == "" && len(d.Attachments) == 0:
		return invalid("text, html and attachments are all empty")
	case len(d.Text)+len(d.HTML) > MaxBodies:
		return invalid("text and html together have more than %d bytes", MaxBodies)
	case !isBody(d.Text) || !isBody(d.HTML):
		return invalid("text or html contains NUL or is not UTF-8")
	}
	return nil
}

func isBody(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func isLine(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, isControl)
}

// isControl also takes the line and paragraph separators of Unicode.
func isControl(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// allowedHeaders may come with a mail, in their canonical form, besides those that begin with X-.
var allowedHeaders = []string{
	"Auto-Submitted", "Feedback-Id", "Importance", "In-Reply-To", "Keywords", "List-Help", "List-Id", "List-Post",
	"List-Unsubscribe", "List-Unsubscribe-Post", "Organization", "Precedence", "References", "Sensitivity",
}

// steering are the headers, without X-, that tell mail services whom else to send a mail to, or how;
// and our own.
var steering = []string{"Mailkeep-", "Smtpapi-", "Mc-", "Ses-", "Mailgun-", "Pm-", "Mj-", "Msys-", "Sg-", "Mailer-"}

func (d *Draft) checkHeaders() error {
	if len(d.Headers) > MaxHeaders {
		return invalid("headers has more than %d entries", MaxHeaders)
	}
	seen := map[string]bool{}
	for i, h := range d.Headers {
		name := textproto.CanonicalMIMEHeaderKey(h.Name)
		switch {
		case !mayBring(name):
			return invalid("headers[%d] has a name that a mail can't bring; allowed are %s, and X-… that steers no mail service",
				i, strings.Join(allowedHeaders, ", "))
		case seen[name]:
			return invalid("headers[%d] repeats a name", i)
		case strings.TrimSpace(h.Value) == "" || !isLine(h.Value, maxHeaderValue):
			return invalid("headers[%d] has a value that is empty, longer than %d bytes, with control characters or not UTF-8",
				i, maxHeaderValue)
		}
		seen[name] = true
	}
	return nil
}

// mayBring reports whether a mail can bring a header of this canonical name.
func mayBring(name string) bool {
	if slices.Contains(allowedHeaders, name) {
		return true
	}
	rest, ok := strings.CutPrefix(name, "X-")
	return ok && rest != "" && len(name) <= 70 &&
		!slices.ContainsFunc(steering, func(prefix string) bool { return strings.HasPrefix(rest+"-", prefix) }) &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		})
}

func (d *Draft) checkAttachments() error {
	if len(d.Attachments) > MaxAttachments {
		return invalid("attachments has more than %d entries", MaxAttachments)
	}
	size := 0
	for i, a := range d.Attachments {
		if a.Name == "" || !isLine(a.Name, maxName) || strings.ContainsAny(a.Name, `/\`) {
			return invalid("attachments[%d].name is empty, longer than %d bytes, or not a plain file name", i, maxName)
		}
		if kind, _, err := mime.ParseMediaType(a.ContentType); a.ContentType != "" &&
			(err != nil || !strings.Contains(kind, "/") || !isLine(a.ContentType, maxName) || strings.HasPrefix(kind, "multipart/") ||
				strings.HasPrefix(kind, "message/")) {
			return invalid("attachments[%d].content_type is not a media type that a file can have", i)
		}
		size += len(a.Data)
	}
	if size > MaxAttached {
		return invalid("attachments together have more than %d bytes", MaxAttached)
	}
	return nil
}
