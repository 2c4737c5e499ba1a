package delivery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"time"

	"github.com/mailkeep/mailkeep/internal/emailprovider"
)

// EventType is what a webhook is told that has happened.
const EventType = "mailkeep.message.send"

// SignatureHeader carries the signature of a POST; see Sign.
const SignatureHeader = "ZITADEL-Signature"

// notice is the body of a POST. It is a mail for one recipient; blind copies are not told of.
type notice struct {
	Context  noticeContext     `json:"contextInfo"`
	Template noticeTemplate    `json:"templateData"`
	Args     map[string]string `json:"args"` // messageId and Mail.Args
}

type noticeContext struct {
	EventType string         `json:"eventType"`
	Provider  noticeProvider `json:"provider"`
	Recipient string         `json:"recipientEmailAddress"`
}

type noticeProvider struct {
	ID          string `json:"id"`
	Description string `json:"description"`
}

type noticeTemplate struct {
	Subject     string                     `json:"subject"`
	Text        string                     `json:"text,omitempty"`
	HTML        string                     `json:"html,omitempty"`
	To          []string                   `json:"to,omitempty"`
	Cc          []string                   `json:"cc,omitempty"`
	ReplyTo     string                     `json:"replyTo,omitempty"`
	Headers     []emailprovider.Header     `json:"headers,omitempty"`
	Attachments []emailprovider.Attachment `json:"attachments,omitempty"` // data in base64
}

func newNotice(via emailprovider.Route, mail emailprovider.Mail) notice {
	args := maps.Clone(mail.Args)
	if args == nil {
		args = map[string]string{}
	}
	args["messageId"] = mail.MessageID
	return notice{
		Context: noticeContext{EventType: EventType, Provider: noticeProvider{via.ProviderID, via.Description}},
		Template: noticeTemplate{
			Subject: mail.Subject, Text: mail.Text, HTML: mail.HTML, To: mail.To, Cc: mail.Cc, ReplyTo: mail.ReplyTo,
			Headers: mail.Headers, Attachments: mail.Attachments,
		},
		Args: args,
	}
}

// Sign returns the value of SignatureHeader for a body.
//
// A receiver takes t and v1 from the header, computes HMAC-SHA256 over the decimal t, a dot and the
// body as it came, with the provider's signing key as the key, and compares it with v1 (hexadecimal)
// in constant time. It refuses a t that is more than a few minutes off, and takes args.messageId
// with contextInfo.recipientEmailAddress only once: both are the same on every attempt.
func Sign(key string, at time.Time, body []byte) string {
	unix := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(unix + "."))
	mac.Write(body)
	return "t=" + unix + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
