package emailprovider

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/address"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// maxCredential bounds a user name or a secret, in bytes.
const maxCredential = 4096

// idValue is the id of refused values for which the admin API has no id of its own.
const idValue = "MAILKEEP-VALUE"

// smtpIDs are the ids that one command reports the values of SMTP settings under.
type smtpIDs struct{ sender, host string }

var (
	addSMTPIDs    = smtpIDs{sender: "COMMAND-SAAFpV8VKV", host: "COMMAND-EvAtufIinh"}
	updateSMTPIDs = smtpIDs{sender: "COMMAND-gyPUXOTA4N", host: "COMMAND-kZNVkuL32L"}
)

// normalize trims what may be padded and checks every value, in the order of the admin API.
func (s *SMTP) normalize(ids smtpIDs, policy Policy) error {
	s.SenderAddress = strings.TrimSpace(s.SenderAddress)
	if s.SenderAddress == "" {
		return invalid(ids.sender, "sender_address is empty")
	}
	s.Host = strings.TrimSpace(s.Host)
	if err := checkHostPort(s.Host); err != "" {
		return invalid(ids.host, "host "+err)
	}
	if err := policy.checkSender(s.SenderAddress); err != nil {
		return err
	}
	s.ReplyTo = strings.TrimSpace(s.ReplyTo)
	if s.ReplyTo != "" {
		if err := address.Check(s.ReplyTo); err != nil {
			return invalid(idValue, "reply_to_address "+err.Error())
		}
	}
	if strings.ContainsFunc(s.SenderName, unicode.IsControl) || !utf8.ValidString(s.SenderName) {
		return invalid(idValue, "sender_name contains control characters or is not UTF-8")
	}
	return checkCredential("user", s.User)
}

// checkHostPort says what is wrong with s as host:port, or nothing.
func checkHostPort(s string) string {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "must be host:port"
	}
	host, port := s[:i], s[i+1:]
	if !isPort(port) {
		return "must end in a port from 1 to 65535"
	}
	if literal, ok := strings.CutPrefix(host, "["); ok {
		literal, closed := strings.CutSuffix(literal, "]")
		if ip, err := netip.ParseAddr(literal); !closed || err != nil || !ip.Is6() || ip.Zone() != "" {
			return "has brackets around something that is not an IPv6 address without a zone"
		}
		return ""
	}
	if len(host) > 253 || !isHostName(host) {
		return "must be host:port, with a name or an IP address as the host and nothing else"
	}
	return ""
}

// isHostName accepts labels of letters, digits, - and _ that do not begin or end with - (RFC 1123,
// section 2.1), with or without the dot of the root.
func isHostName(host string) bool {
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isHostRune(r) }) {
			return false
		}
	}
	return true
}

func isHostRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '+' && s[0] != '0'
}

// checkURL says what is wrong with s as an absolute http(s) URL, or nothing.
func checkURL(s string) string {
	const want = "must be an absolute http or https URL"
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }) {
		return want + " without spaces, backslashes and control characters"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Opaque != "":
		return want
	case u.User != nil:
		return want + " without user info"
	case u.Fragment != "" || strings.Contains(s, "#"):
		return want + " without a fragment"
	case strings.Contains(u.Host, "%"):
		return want + " without a zone in its address"
	case u.Port() != "" && !isPort(u.Port()), strings.HasSuffix(u.Host, ":"):
		return "must have a port from 1 to 65535, or none"
	}
	return ""
}

// checkCredential refuses what no SASL mechanism can carry (RFC 4616, section 2: no NUL; a line
// break would end the command of LOGIN).
func checkCredential(field, value string) error {
	if len(value) > maxCredential {
		return invalid(idValue, fmt.Sprintf("%s is longer than %d bytes", field, maxCredential))
	}
	if strings.ContainsAny(value, "\x00\r\n") || !utf8.ValidString(value) {
		return invalid(idValue, field+" contains NUL, CR or LF, or is not UTF-8")
	}
	return nil
}

func checkSecret(field string, s secret.Text) error { return checkCredential(field, s.Reveal()) }

func checkDescription(s string) error {
	if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return invalid(idValue, "description contains NUL or is not UTF-8")
	}
	return nil
}

// check refuses token endpoints and scopes that can't be (RFC 6749, sections 3.2 and 3.3).
func (x XOAuth2) check() error {
	if err := checkURL(x.TokenEndpoint); err != "" {
		return invalid(idValue, "token_endpoint "+err)
	}
	for _, scope := range x.Scopes {
		if strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r == '"' || r == '\\' || r > '~' }) {
			return invalid(idValue, "scopes contains a character that RFC 6749, section 3.3 does not allow")
		}
	}
	return checkCredential("client_id", x.ClientID)
}

// Policy is what an instance demands of its providers.
type Policy struct {
	// SenderDomains are the only domains that senders may be in; empty for any.
	SenderDomains []string
}

func (p Policy) checkSender(sender string) error {
	if err := address.Check(sender); err != nil {
		return invalid(idValue, "sender_address "+err.Error())
	}
	if !p.allowsSender(sender) {
		return invalid("INST-xtWIiR2ZbR", "sender_address is not in a domain of this instance")
	}
	return nil
}

func (p Policy) allowsSender(sender string) bool {
	if len(p.SenderDomains) == 0 {
		return true
	}
	_, domain, _ := address.Split(sender)
	for _, d := range p.SenderDomains {
		if strings.EqualFold(d, domain) {
			return true
		}
	}
	return false
}
