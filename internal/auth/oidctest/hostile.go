package oidctest

import (
	"encoding/base64"
	"strings"
	"time"
)

// Case is a token that nobody is to take, or with Good one that is to be taken.
type Case struct {
	Name  string
	Token string
	Good  bool
}

// Cases returns tokens of the issuer for an audience, each with one thing wrong, and good ones. Claims are
// in all of them, such as those with roles.
func (c Control) Cases(audience string, claims map[string]any) []Case {
	return append(append(c.goodCases(audience, claims), c.badClaims(audience, claims)...), c.badForms(audience, claims)...)
}

func (c Control) with(audience string, claims, more map[string]any) map[string]any {
	return merge(c.Claims(audience, claims), more)
}

func (c Control) goodCases(audience string, claims map[string]any) []Case {
	now := time.Now()
	good := func(name string, f Forgery, more map[string]any) Case {
		return Case{name, c.Forge(f, c.with(audience, claims, more)), true}
	}
	return []Case{
		good("RS256", Forgery{KeyID: "rsa1"}, nil),
		good("ES256", Forgery{KeyID: "ec2"}, nil),
		good("one audience", Forgery{}, map[string]any{"aud": audience}),
		good("at+jwt", Forgery{Header: map[string]any{"typ": "at+jwt"}}, nil),
		good("no kid", Forgery{Header: map[string]any{"kid": nil}}, nil),
		good("expired within the skew", Forgery{}, map[string]any{"exp": now.Add(-30 * time.Second).Unix()}),
		good("valid within the skew", Forgery{}, map[string]any{"nbf": now.Add(30 * time.Second).Unix()}),
	}
}

func (c Control) badClaims(audience string, claims map[string]any) (cases []Case) {
	now := time.Now()
	for name, more := range map[string]map[string]any{
		"wrong aud":      {"aud": "other"},
		"wrong auds":     {"aud": []string{"other", audience + "x"}},
		"no aud":         {"aud": nil},
		"AUD":            {"aud": nil, "AUD": audience},
		"wrong iss":      {"iss": "https://issuer.example.com"},
		"iss and slash":  {"iss": c.URL + "/"},
		"no iss":         {"iss": nil},
		"expired":        {"exp": now.Add(-2 * time.Minute).Unix()},
		"no exp":         {"exp": nil},
		"exp 0":          {"exp": 0},
		"exp is endless": {"exp": 1e300},
		"exp is a text":  {"exp": "tomorrow"},
		"not yet valid":  {"nbf": now.Add(2 * time.Minute).Unix()},
		"nobody":         {"sub": nil},
		"long sub":       {"sub": strings.Repeat("s", 256)},
		"bound to a key": {"cnf": map[string]any{"jkt": "x"}},
	} {
		cases = append(cases, Case{Name: name, Token: c.JWT(c.with(audience, claims, more))})
	}
	return cases
}

func (c Control) badForms(audience string, claims map[string]any) []Case {
	all := c.Claims(audience, claims)
	bad := func(name string, f Forgery) Case { return Case{Name: name, Token: c.Forge(f, all)} }
	elsewhere := c.URL + "/elsewhere"
	good := c.JWT(all)
	parts := strings.Split(good, ".")
	claim := func(f func(string) string) string {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		return parts[0] + "." + encode([]byte(f(string(payload)))) + "." + parts[2]
	}
	return []Case{
		{Name: "garbage", Token: "garbage"},
		{Name: "garbage in three parts", Token: "eyJ.garbage.x"},
		{Name: "9 KiB", Token: c.JWT(c.with(audience, claims, map[string]any{"x": strings.Repeat("x", 7<<10)}))},
		{Name: "many dots", Token: "eyJ" + strings.Repeat(".", 8000)},
		{Name: "four parts", Token: good + ".x"},
		{Name: "no signature", Token: parts[0] + "." + parts[1] + "."},
		{Name: "half a signature", Token: good[:len(good)-20]},
		{Name: "another subject", Token: claim(func(s string) string { return strings.Replace(s, "subject-1", "subject-2", 1) })},
		bad("alg none", Forgery{Algorithm: "none"}),
		bad("alg None", Forgery{Algorithm: "none", Header: map[string]any{"alg": "None"}}),
		bad("HS256 with the RSA key", Forgery{KeyID: "rsa1", Algorithm: "HS256"}),
		bad("RS256 that is HS256", Forgery{KeyID: "rsa1", Algorithm: "HS256", Header: map[string]any{"alg": "RS256"}}),
		bad("PS256 with the RS256 key", Forgery{KeyID: "rsa1", Algorithm: "PS256"}),
		bad("a foreign key", Forgery{KeyID: "rsa1", Foreign: true}),
		bad("a foreign kid", Forgery{Foreign: true, Header: map[string]any{"kid": "made-up"}}),
		bad("a foreign key without kid", Forgery{Foreign: true, Header: map[string]any{"kid": nil}}),
		bad("jku", Forgery{Foreign: true, Header: map[string]any{"kid": "made-up", "jku": elsewhere}}),
		bad("x5u", Forgery{Foreign: true, Header: map[string]any{"x5u": elsewhere}}),
		bad("jwk", Forgery{Foreign: true, Header: map[string]any{"jwk": true}}),
		bad("crit", Forgery{Header: map[string]any{"crit": []string{"exp"}}}),
		bad("another type", Forgery{Header: map[string]any{"typ": "logout+jwt"}}),
	}
}
