package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
)

// Kinds of keys.
const (
	RSA = "rsa" // signs with RS256
	EC  = "ec"  // signs with ES256
)

type key struct {
	id  string
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
}

func newKey(id, kind string) (k *key, err error) {
	k = &key{id: id}
	if kind == RSA {
		k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	return k, err
}

// add makes a new key and publishes it.
func (i *Issuer) add(kind string) (id string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	k, err := newKey(fmt.Sprintf("%s%d", kind, i.next), kind)
	if err != nil {
		return "", err
	}
	i.next++
	i.keys = append(i.keys, k)
	return k.id, nil
}

// withdraw unpublishes a key.
func (i *Issuer) withdraw(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = slices.DeleteFunc(i.keys, func(k *key) bool { return k.id == id })
}

func (k *key) algorithm() string {
	if k.rsa != nil {
		return "RS256"
	}
	return "ES256"
}

func (k *key) jwk() map[string]any {
	if k.rsa != nil {
		return map[string]any{
			"kty": "RSA", "kid": k.id, "use": "sig", "alg": "RS256",
			"n": encode(k.rsa.N.Bytes()), "e": encode(big.NewInt(int64(k.rsa.E)).Bytes()),
		}
	}
	point, err := k.ec.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		panic(err) // of a key that was made here
	}
	return map[string]any{"kty": "EC", "kid": k.id, "use": "sig", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:])}
}

// publicPEM is what those take for an HMAC key who mistake HS256 for RS256.
func (k *key) publicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(&k.rsa.PublicKey)
	if err != nil {
		panic(err) // of a key that was made here
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// sign signs with an algorithm, whatever the header says.
func (k *key) sign(algorithm string, header, claims map[string]any) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := encode(h) + "." + encode(c)
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	switch algorithm {
	case "RS256":
		signature, err = rsa.SignPKCS1v15(rand.Reader, k.rsa, crypto.SHA256, sum[:])
	case "PS256":
		signature, err = rsa.SignPSS(rand.Reader, k.rsa, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	case "HS256":
		mac := hmac.New(sha256.New, k.publicPEM())
		mac.Write([]byte(signed))
		signature = mac.Sum(nil)
	case "ES256":
		r, s, failed := ecdsa.Sign(rand.Reader, k.ec, sum[:])
		if err = failed; err == nil {
			signature = make([]byte, 64)
			r.FillBytes(signature[:32])
			s.FillBytes(signature[32:])
		}
	case "none":
	default:
		err = fmt.Errorf("no algorithm %q", algorithm)
	}
	return signed + "." + encode(signature), err
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
