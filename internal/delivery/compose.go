package delivery

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

const (
	// maxMessageID keeps the header line well below the limit of RFC 5322, section 2.1.1.
	maxMessageID = 300
	// maxHeaderName leaves room for a value in the same line.
	maxHeaderName = 100
)

// compose checks a mail once more and makes it ready to send. The domain has checked the same when
// it took the values; here is where they would do harm. What is refused is named and not repeated.
func (t *Transport) compose(from emailprovider.SMTP, mail emailprovider.Mail) (envelope, error) {
	if err := address.Check(from.SenderAddress); err != nil {
		return envelope{}, refused(emailprovider.StepFrom, "the sender's address "+err.Error())
	}
	if len(mail.Recipients) == 0 {
		return envelope{}, refused(emailprovider.StepRecipient, "the mail has no recipients")
	}
	for _, recipient := range mail.Recipients {
		if err := address.Check(recipient); err != nil {
			return envelope{}, refused(emailprovider.StepRecipient, "a recipient's address "+err.Error())
		}
	}
	if err := checkContent(from, mail); err != nil {
		return envelope{}, refused(emailprovider.StepData, err.Error())
	}
	return envelope{
		from:    from.SenderAddress,
		to:      mail.Recipients,
		utf8:    needsUTF8(from, mail),
		message: compile(from, mail),
	}, nil
}

// needsUTF8 reports whether an address has letters outside ASCII, in the envelope or in a header
// (RFC 6532, section 3.2).
func needsUTF8(from emailprovider.SMTP, mail emailprovider.Mail) bool {
	outside := func(a string) bool { return !address.IsASCII(a) }
	return outside(from.SenderAddress) || outside(cmp.Or(mail.ReplyTo, from.ReplyTo)) ||
		slices.ContainsFunc(mail.Recipients, outside) ||
		slices.ContainsFunc(mail.To, outside) || slices.ContainsFunc(mail.Cc, outside)
}

func checkContent(from emailprovider.SMTP, mail emailprovider.Mail) error {
	if err := checkAddresses(from, mail); err != nil {
		return err
	}
	switch {
	case !isText(from.SenderName):
		return errors.New("the sender's name has a control character or is not UTF-8")
	case !isText(mail.Subject):
		return errors.New("the subject has a control character or is not UTF-8")
	case !isMessageID(mail.MessageID):
		return errors.New("the message id is not of the form left@right")
	}
	for _, h := range mail.Headers {
		if err := checkHeader(h); err != nil {
			return err
		}
	}
	for _, a := range mail.Attachments {
		if err := checkAttachment(a); err != nil {
			return err
		}
	}
	return nil
}

// checkAddresses checks those in headers.
func checkAddresses(from emailprovider.SMTP, mail emailprovider.Mail) error {
	for _, to := range mail.To {
		if err := address.Check(to); err != nil {
			return errors.New("an address in To " + err.Error())
		}
	}
	for _, cc := range mail.Cc {
		if err := address.Check(cc); err != nil {
			return errors.New("an address in Cc " + err.Error())
		}
	}
	if replyTo := cmp.Or(mail.ReplyTo, from.ReplyTo); replyTo != "" {
		if err := address.Check(replyTo); err != nil {
			return errors.New("the reply-to address " + err.Error())
		}
	}
	return nil
}

func checkHeader(h emailprovider.Header) error {
	switch {
	case !isFieldName(h.Name):
		return errors.New("a further header's name is not a header name")
	case isOurs(h.Name):
		return errors.New("a further header has a name that only the service may give")
	case !isText(h.Value):
		return errors.New("a further header's value has a control character or is not UTF-8")
	case !address.IsASCII(h.Value):
		return nil // encoded words have a length of their own
	}
	for word := range strings.SplitSeq(h.Value, " ") {
		if len(h.Name)+len(": ")+len(word) > hardLine {
			return errors.New("a further header's value has a word that is too long for a line")
		}
	}
	return nil
}

// isFieldName is RFC 5322, section 3.6.8, with a length.
func isFieldName(s string) bool {
	return s != "" && len(s) <= maxHeaderName &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}

// ours are the headers that a mail can't bring: those we write, and those that say who has sent or
// carried it, or who else gets it.
var ours = []string{
	"date", "message-id", "from", "sender", "to", "cc", "bcc", "reply-to", "subject", "mime-version", "return-path", "received",
	"delivered-to", "return-receipt-to", "disposition-notification-to", "dkim-signature", "authentication-results",
}

func isOurs(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(ours, name) || strings.HasPrefix(name, "content-") || strings.HasPrefix(name, "resent-")
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, isControl) }

// isControl also takes the line and paragraph separators of Unicode.
func isControl(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// isMessageID is narrower than RFC 5322, section 3.6.4: visible ASCII without quoting.
func isMessageID(s string) bool {
	left, right, ok := strings.Cut(s, "@")
	return ok && left != "" && right != "" && len(s) <= maxMessageID &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>()",;:\`, r) }) &&
		!strings.Contains(right, "@")
}
