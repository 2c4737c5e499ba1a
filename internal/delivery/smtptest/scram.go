package smtptest

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"hash"
	"strings"
)

const scramIterations = 4096

var errSCRAM = errors.New("malformed SCRAM message")

// scram is the server's side of RFC 5802; with a TLS state it demands channel binding.
type scram struct {
	hash   func() hash.Hash
	verify verify
	tls    *tls.ConnectionState

	header, bare, first string // gs2 header, client-first-message-bare, server-first-message
	user                string
	salt                []byte
	signature           []byte
	step                int
}

func newSCRAM(h func() hash.Hash, v verify, state *tls.ConnectionState) *scram {
	return &scram{hash: h, verify: v, tls: state, salt: []byte(rand.Text())}
}

// Next implements sasl.Server.
func (s *scram) Next(response []byte) ([]byte, bool, error) {
	if response == nil {
		return nil, false, nil
	}
	s.step++
	switch s.step {
	case 1:
		return s.clientFirst(string(response))
	case 2:
		return s.clientFinal(string(response))
	}
	return nil, true, nil
}

func (s *scram) clientFirst(message string) ([]byte, bool, error) {
	parts := strings.SplitN(message, ",", 3)
	if len(parts) != 3 || strings.HasPrefix(parts[0], "p=") != (s.tls != nil) {
		return nil, true, errSCRAM
	}
	s.header, s.bare = parts[0]+","+parts[1]+",", parts[2]
	user, nonce, ok := strings.Cut(s.bare, ",r=")
	if !ok || !strings.HasPrefix(user, "n=") {
		return nil, true, errSCRAM
	}
	s.user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(user[2:])
	s.first = "r=" + nonce + rand.Text() + ",s=" + base64.StdEncoding.EncodeToString(s.salt) + ",i=4096"
	return []byte(s.first), false, nil
}

func (s *scram) clientFinal(message string) ([]byte, bool, error) {
	without, proof64, ok := strings.Cut(message, ",p=")
	proof, err := base64.StdEncoding.DecodeString(proof64)
	if !ok || err != nil || !strings.HasPrefix(without, "c="+s.binding()+",r=") {
		return nil, true, errSCRAM
	}
	signed := s.bare + "," + s.first + "," + without
	if err := s.verify(s.user, func(password string) bool { return s.proves(password, signed, proof) }); err != nil {
		return nil, true, err
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(s.signature)), false, nil
}

// binding is what the client must repeat: its header and the data of the channel it named.
func (s *scram) binding() string {
	data := []byte(s.header)
	if s.tls != nil && strings.HasPrefix(s.header, "p=tls-exporter,") {
		exported, err := s.tls.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
		if err == nil {
			data = append(data, exported...)
		}
	} else if s.tls != nil {
		data = append(data, s.tls.TLSUnique...)
	}
	return base64.StdEncoding.EncodeToString(data)
}

func (s *scram) proves(password, signed string, proof []byte) bool {
	salted, err := pbkdf2.Key(s.hash, password, s.salt, scramIterations, s.hash().Size())
	if err != nil {
		return false
	}
	clientKey := s.mac(salted, "Client Key")
	stored := s.hash()
	stored.Write(clientKey)
	signature := s.mac(stored.Sum(nil), signed)
	for i := range signature {
		signature[i] ^= clientKey[i]
	}
	s.signature = s.mac(s.mac(salted, "Server Key"), signed)
	return hmac.Equal(signature, proof)
}

func (s *scram) mac(key []byte, message string) []byte {
	mac := hmac.New(s.hash, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}
