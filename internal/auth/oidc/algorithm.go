package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are those with a public key. With others, who can verify can sign.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// algorithmNames are algorithms, for go-oidc.
var algorithmNames = func() (names []string) {
	for _, a := range algorithms {
		names = append(names, string(a))
	}
	return names
}()

// minRSA is the least size of an RSA key in bits (RFC 7518, section 3.3).
const minRSA = 2048

// algorithmOf returns the one algorithm of a key: its own, or the usual one of its kind; empty for a key
// that is not good for any.
func algorithmOf(k jose.JSONWebKey) jose.SignatureAlgorithm {
	fit := fitting(k.Key)
	if own := jose.SignatureAlgorithm(k.Algorithm); k.Algorithm != "" {
		if slices.Contains(fit, own) {
			return own
		}
		return ""
	}
	if len(fit) == 0 {
		return ""
	}
	return fit[0]
}

// fitting returns the algorithms of a kind of key, the usual one first.
func fitting(public any) []jose.SignatureAlgorithm {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSA {
			return algorithms[:6]
		}
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return []jose.SignatureAlgorithm{jose.ES256}
		case 384:
			return []jose.SignatureAlgorithm{jose.ES384}
		case 521:
			return []jose.SignatureAlgorithm{jose.ES512}
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return nil
}
