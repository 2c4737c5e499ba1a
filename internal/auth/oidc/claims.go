package oidc

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mailkeep/mailkeep/internal/auth"
)

const (
	// skew is how far the clocks of issuers and ours may be apart.
	skew = time.Minute
	// maxSubject is what OpenID Connect Core allows, section 2.
	maxSubject = 255
	// maxMoment is the end of the year 9999, which is never for a token.
	maxMoment = 253402300799
)

// claims is what a token or an introspection says. Names are taken as they are spelt, which encoding/json
// does not do for the fields of a struct: "AUD" is not aud.
type claims struct {
	all                map[string]any
	issuer, subject    string
	audience           []string
	notBefore, expires time.Time // zero if missing
}

func readClaims(data []byte) (c claims, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&c.all); err != nil || !utf8.Valid(data) {
		return c, errors.New("claims that are no object in UTF-8")
	}
	c.issuer, c.subject = c.text("iss"), cmp.Or(c.text("sub"), c.text("client_id"))
	switch a := c.all["aud"].(type) { // one text or a list (RFC 7519, section 4.1.3)
	case string:
		c.audience = []string{a}
	case []any:
		c.audience = values(a)
	}
	if c.notBefore, err = c.moment("nbf"); err == nil {
		c.expires, err = c.moment("exp")
	}
	return c, err
}

func (c *claims) text(name string) string {
	text, _ := c.all[name].(string)
	return text
}

// moment reads a NumericDate (RFC 7519, section 2).
func (c *claims) moment(name string) (time.Time, error) {
	value := c.all[name]
	if value == nil {
		return time.Time{}, nil
	}
	n, _ := value.(json.Number)
	seconds, err := n.Float64()
	if err != nil || seconds < 1 || seconds > maxMoment {
		return time.Time{}, fmt.Errorf("%s is not a time", name)
	}
	return time.Unix(int64(seconds), 0), nil
}

// check looks at everything but the signature.
func (c *claims) check(issuer, audience string, now time.Time) error {
	switch {
	case c.issuer != issuer:
		return errors.New("another issuer")
	case !slices.Contains(c.audience, audience):
		return errors.New("another audience")
	case c.expires.IsZero():
		return errors.New("no exp")
	}
	return c.checkUse(now)
}

// checkUse looks at what holds whoever says it: times, and whether we can use such a token.
func (c *claims) checkUse(now time.Time) error {
	switch {
	case !c.expires.IsZero() && !now.Before(c.expires.Add(skew)):
		return errors.New("expired")
	case now.Before(c.notBefore.Add(-skew)):
		return errors.New("not yet valid")
	case c.all["cnf"] != nil: // its holder would have to prove that they have a key (RFC 7800)
		return errors.New("bound to a key (cnf), which is not supported")
	case c.subject == "" || len(c.subject) > maxSubject:
		return errors.New("no sub, or one longer than 255 bytes")
	}
	return nil
}

// caller returns who calls, with the issuer in front of the name: two may have the same subject.
func (c *claims) caller(instance, issuer string, roles mapping) auth.Caller {
	return auth.Caller{Instance: instance, Name: printable(issuer + "|" + c.subject), Roles: roles.of(c.all)}
}

// printable replaces what could be taken for something else in a log, and keeps names apart.
func printable(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// mapping is which roles of ours the values of a claim stand for.
type mapping struct {
	path string // of the claim: names with dots between
	role map[string]string
}

// of returns the roles that claims give, each once.
func (m mapping) of(all map[string]any) (roles []string) {
	for _, value := range values(find(all, m.path)) {
		if role, ok := m.role[value]; ok && !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	slices.Sort(roles)
	return roles
}

// find returns the member at a path. Names may have dots too, as URLs have.
func find(object map[string]any, path string) any {
	if v, ok := object[path]; ok {
		return v
	}
	for i, c := range path {
		if inner, ok := object[path[:i]].(map[string]any); c == '.' && ok {
			if v := find(inner, path[i+1:]); v != nil {
				return v
			}
		}
	}
	return nil
}

// values returns what a claim lists: the texts of a list, the keys of an object (ZITADEL's roles, with
// the organizations behind each), or the words of a text.
func values(claim any) (all []string) {
	switch v := claim.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		for _, element := range v {
			if text, ok := element.(string); ok {
				all = append(all, text)
			}
		}
	case map[string]any:
		for key := range v {
			all = append(all, key)
		}
	}
	return all
}
