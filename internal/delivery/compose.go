package delivery

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// maxMessageID keeps the header line well below the limit of RFC 5322, section 2.1.1.
const maxMessageID = 300

// compose checks a mail once more and makes it ready to send. The domain has checked the same when
// it took the values; here is where they would do harm.
func (t *Transport) compose(from emailprovider.SMTP, mail emailprovider.Mail) (envelope, error) {
	if err := address.Check(from.SenderAddress); err != nil {
		return envelope{}, refused(emailprovider.StepFrom, "the sender's address "+err.Error())
	}
	if err := address.Check(mail.To); err != nil {
		return envelope{}, refused(emailprovider.StepRecipient, "the recipient's address "+err.Error())
	}
	if err := checkContent(from, mail); err != nil {
		return envelope{}, refused(emailprovider.StepData, err.Error())
	}
	m := message{
		date:      t.now(),
		id:        mail.MessageID,
		fromName:  from.SenderName,
		from:      from.SenderAddress,
		to:        mail.To,
		replyTo:   from.ReplyTo,
		subject:   mail.Subject,
		plainText: mail.Text,
	}
	return envelope{
		from:    from.SenderAddress,
		to:      mail.To,
		utf8:    !isASCII(from.SenderAddress + mail.To + from.ReplyTo),
		message: m.bytes(),
	}, nil
}

func checkContent(from emailprovider.SMTP, mail emailprovider.Mail) error {
	if from.ReplyTo != "" {
		if err := address.Check(from.ReplyTo); err != nil {
			return errors.New("the reply-to address " + err.Error())
		}
	}
	switch {
	case !isText(from.SenderName):
		return errors.New("the sender's name has a control character or is not UTF-8")
	case !isText(mail.Subject):
		return errors.New("the subject has a control character or is not UTF-8")
	case !isMessageID(mail.MessageID):
		return errors.New("the message id is not of the form left@right")
	}
	return nil
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

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}
