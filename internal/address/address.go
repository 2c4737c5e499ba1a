// Package address decides what is a mail address: one addr-spec with nothing around it.
//
// It is stricter than RFC 5321 where leniency has let ESMTP parameters, second recipients or header
// lines in: no quoted local parts, no comments, no display name, no list.
package address

import (
	"errors"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Octet limits of RFC 5321, sections 4.5.3.1.1 and 4.5.3.1.3 (a path is two octets longer).
const (
	maxLocal   = 64
	maxAddress = 254
)

// What is wrong with an address. The texts go behind the name of a field and never repeat it.
var (
	errTooLong = errors.New("is longer than a mail address can be (RFC 5321, section 4.5.3.1)")
	errNoAt    = errors.New("is not a mail address of the form name@domain")
	errLocal   = errors.New("has a part before the @ that is not allowed; quoted names are not supported")
	errDomain  = errors.New("has a part after the @ that is not a domain")
)

// Check returns nil if s is one mail address: dot-atom "@" domain, or an address literal such as
// [192.0.2.1] as the domain. Letters outside ASCII are allowed (RFC 6531).
func Check(s string) error {
	if len(s) > maxAddress {
		return errTooLong
	}
	local, domain, ok := Split(s)
	if !ok {
		return errNoAt
	}
	if len(local) > maxLocal || !dotted(local, isAtext) {
		return errLocal
	}
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		literal, closed := strings.CutSuffix(literal, "]")
		if !closed || !isIPLiteral(literal) {
			return errDomain
		}
		return nil
	}
	if !dotted(domain, isDomainRune) || hyphenAtEdge(domain) {
		return errDomain
	}
	return nil
}

// Split cuts an address at its last @.
func Split(s string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// dotted reports whether s is one or more non-empty runs of allowed runes, separated by dots.
func dotted(s string, allowed func(rune) bool) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || strings.ContainsFunc(part, func(r rune) bool { return !allowed(r) }) {
			return false
		}
	}
	return true
}

// isAtext is atext of RFC 5322, section 3.2.3, with the UTF-8 of RFC 6531, section 3.3.
func isAtext(r rune) bool {
	return isLetterOrDigit(r) || r < utf8.RuneSelf && strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

func isDomainRune(r rune) bool { return isLetterOrDigit(r) || r == '-' || r == '_' }

func isLetterOrDigit(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		r >= utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) || unicode.IsSymbol(r))
}

func hyphenAtEdge(domain string) bool {
	for label := range strings.SplitSeq(domain, ".") {
		if strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return true
		}
	}
	return false
}

// isIPLiteral accepts what RFC 5321, section 4.1.3 puts between the brackets.
func isIPLiteral(s string) bool {
	v6, tagged := strings.CutPrefix(s, "IPv6:")
	ip, err := netip.ParseAddr(v6)
	return err == nil && ip.Zone() == "" && tagged == ip.Is6()
}

// IsASCII reports whether s has ASCII characters only, so that any server can carry it.
func IsASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
