package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mailkeep/mailkeep/internal/auth"
)

// FuzzGlance: a token that is worth a look at the issuer's keys has the form of a JWT, an algorithm with a
// public key, and the claims as the issuer would have them; why another one is not is said without it.
func FuzzGlance(f *testing.F) {
	const issuer, audience = "https://id.example.com", "mailkeep"
	now := time.Unix(1767225600, 0)
	const fine = `{"iss":"https://id.example.com","sub":"someone","aud":["mailkeep","other"],"exp":1767229200}`
	for _, header := range []string{
		`{"alg":"RS256","kid":"1","typ":"at+jwt"}`, `{"alg":"none"}`, `{"alg":"HS256"}`, `{"alg":"ES256","crit":[]}`, `{"alg":"RS256","ALG":"none"}`,
		`{"alg":"RS256","jwk":{}}`, `{"alg":["RS256"]}`, `{"alg":"RS256","typ":"logout+jwt"}`, `{`, ``, `null`, `{"alg":"rs256"}`,
	} {
		f.Add(header, fine, "c2ln")
	}
	for _, claims := range []string{
		`{"iss":"https://id.example.com/","sub":"a","aud":"mailkeep","exp":1767229200}`, `{"iss":"https://id.example.com","sub":"a","AUD":"mailkeep","exp":1767229200}`,
		`{"iss":"https://id.example.com","sub":"a","aud":"mailkeep","exp":1e300}`, `{"iss":"https://id.example.com","sub":"a","aud":"mailkeep","exp":"1767229200"}`,
		`{"iss":"https://id.example.com","sub":"a","aud":"mailkeep","exp":1767225540}`, `{"iss":"https://id.example.com","sub":"a","aud":[["mailkeep"]],"exp":1767229200}`,
		`{"iss":"https://id.example.com","sub":"a","aud":"mailkeep"}`, `[]`, `{} {}`, strings.Repeat("[", 6000), "{\"iss\":\"\xff\"}",
	} {
		f.Add(`{"alg":"RS256"}`, claims, "c2ln.x")
		f.Add(`{"alg":"EdDSA"}`, claims, "")
	}
	trust := &Trust{config: Config{Issuer: issuer, Audience: audience, Now: func() time.Time { return now }}}
	f.Fuzz(func(t *testing.T, header, claims, signature string) {
		token := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + signature
		h, err := trust.glance(token)
		if err != nil {
			if len(claims) > 16 && strings.Contains(err.Error(), claims) || len(signature) > 16 && strings.Contains(err.Error(), signature) {
				t.Errorf("%v", err)
			}
			return
		}
		if strings.Count(token, ".") != 2 || !slices.Contains(algorithms, jose.SignatureAlgorithm(h.Algorithm)) || h.Critical != nil {
			t.Errorf("%q: %+v", token, h)
		}
		if header[0] == '{' && header[1] == '"' && !auth.IsJWT(token) {
			t.Errorf("%q is no JWT to whom it is shown first", token)
		}
		var said map[string]any
		if err := json.NewDecoder(bytes.NewReader([]byte(claims))).Decode(&said); err != nil {
			t.Fatalf("%q: %v", claims, err)
		}
		list, _ := said["aud"].([]any)
		expires, _ := said["exp"].(float64)
		if said["iss"] != issuer || said["aud"] != audience && !slices.Contains(list, any(audience)) || expires < float64(now.Add(-skew).Unix()) {
			t.Errorf("%q is worth a look", claims)
		}
	})
}
