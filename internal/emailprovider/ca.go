package emailprovider

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// Bounds of the certificate authorities of a provider's own.
const (
	maxCA          = 32 << 10 // bytes of PEM
	maxAuthorities = 20
)

var setCA = commandIDs{"", idQuery}

// SetCA gives a provider certificate authorities of its own, in PEM: its mail server or webhook is
// trusted by these only. Empty takes them away.
func (s *Service) SetCA(ctx context.Context, c Caller, id, text string) (Provider, error) {
	ca, err := checkCA(text)
	if err != nil {
		return Provider{}, err
	}
	return s.changeRecent(ctx, c, id, setCA, func(p *Provider) (decision, error) {
		if p.CA == ca {
			return decision{}, nil
		}
		p.CA = ca
		return decision{event: EventUpdated, fields: []string{"ca_pem"}}, nil
	})
}

// checkCA returns the certificates of a PEM text without anything else that it has.
func checkCA(text string) (string, error) {
	if len(text) > maxCA {
		return "", invalid(idValue, fmt.Sprintf("ca_pem is longer than %d bytes", maxCA))
	}
	var out bytes.Buffer
	rest, n := bytes.TrimSpace([]byte(text)), 0
	for ; len(rest) > 0; n++ {
		var block *pem.Block
		if block, rest = nextBlock(rest); block == nil {
			return "", invalid(idValue, "ca_pem has something other than certificates in PEM")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", invalid(idValue, fmt.Sprintf("certificate %d of ca_pem is not one", n+1))
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", err
		}
	}
	if n > maxAuthorities {
		return "", invalid(idValue, fmt.Sprintf("ca_pem has more than %d certificates", maxAuthorities))
	}
	return out.String(), nil
}

// nextBlock returns the certificate that a text begins with, or nil, and what follows it.
func nextBlock(text []byte) (*pem.Block, []byte) {
	if !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) {
		return nil, text
	}
	block, rest := pem.Decode(text)
	if bytes.Count(text[:len(text)-len(rest)], []byte("-----BEGIN")) != 1 {
		return nil, text // it has left out what it could not read
	}
	return block, bytes.TrimSpace(rest)
}

// Authorities returns the certificate authorities of the provider's own.
func (p Provider) Authorities() (all []Certificate) {
	for block, rest := nextBlock([]byte(p.CA)); block != nil; block, rest = nextBlock(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, Certificate{Subject: c.Subject.String(), Issuer: c.Issuer.String(), Expires: c.NotAfter})
		}
	}
	return all
}
